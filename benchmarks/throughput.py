"""Trials an hour: the plain Ray Tune script against ours, interleaved in one run, medians, CPU seconds beside wall seconds.

Run: python benchmarks/throughput.py [--quick] [--rows searches steps heads augmentation] [--rounds 3]
     python benchmarks/throughput.py --rows searches --search small:64 --rounds 1       (a case of search_cases.py : trials)
     python benchmarks/throughput.py --rows searches --search trivial:500:40 --rounds 1 (the reference on 40 trials only)
Writes benchmarks/results/throughput.{json,md}; rows of an earlier run that are not asked for again stay as they are.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from process_tree import measure
from restore_data import SOURCES, restore
from search_cases import cases

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FILLED_S = 0.5
"""CPU seconds that one measurement of `_interleaved` takes at least: the work is done again until then."""
ROWS = ("searches", "steps", "heads", "augmentation")
STEPS = "one array against one after another, CPU seconds an epoch"
WAYS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "ray": ("ray",),
    "slots": ("slots", "--slots", "4"),
    "ray, auto": ("ray", "--precision", "auto"),
    "slots, auto": ("slots", "--slots", "4", "--precision", "auto"),
    "slots, one engine on all cores": ("slots", "--slots", "4", "--cpus-per-trial", str(os.cpu_count())),
}
"""Sides of a search; "plain" is the reference, and "auto" is `train.precision: auto`: bf16 where it is faster."""


def searches(case: str, trials: int, plain_trials: int, rounds: int, ways: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Run each way `rounds` times, interleaved, each with caches of its own, start-up included; ratios are those a trial."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    known = cases()[case]
    with tempfile.TemporaryDirectory() as data:
        root = ("--root", str(restore(known.source, Path(known.root), Path(data)))) if known.source in SOURCES else ()
        for _ in range(rounds):
            for name, (way, *more) in ways.items():
                wanted = plain_trials if name == "plain" else trials
                found = _search([way, "--case", case, "--trials", str(wanted), *root, *more])
                runs[name].append(found)
                costs = {key: found[key] for key in ("wall_s", "cpu_s", "peak_mb")}
                print(f"{case}, {found['trials']} trials, {name}: {costs}, {found['epochs']} epochs", flush=True)
    table = {name: _medians(found) for name, found in runs.items()}
    for row in table.values():
        for cost in ("wall", "cpu"):
            reference, own = (one[f"{cost}_s"] / one["trials"] for one in (table["plain"], row))
            row[f"{cost}_ratio"] = round(reference / own, 2)
    return {"case": known.says, "trials": trials, "rounds": rounds, "medians": table, "runs": runs}


def _search(words: list[str]) -> dict[str, Any]:
    """Run one search in a process of its own and return what it cost and found."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "search"
        place.mkdir()
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": folder, "PYTHONPATH": path}
        command = [sys.executable, str(HERE / "searches.py"), *words, "--folder", str(place)]
        cost = measure(command, log=Path(folder) / "log", env=env, timeout_s=3600)
        found = json.loads((place / "result.json").read_text())
    cost.pop("processes")  # those of one search: python benchmarks/process_tree.py
    return {**cost, **found, "load_after": round(os.getloadavg()[0], 1)}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    row = {
        key: statistics.median(run[key] for run in runs) for key in ("wall_s", "cpu_s", "peak_mb", "best", "epochs", "trials")
    }
    row["trials_per_hour"] = round(3600 * runs[0]["trials"] / row["wall_s"])
    occupied = [run["slots"] for run in runs if run.get("slots")]
    if occupied:
        row |= {key: statistics.median(found[key] for found in occupied) for key in ("occupancy", "device_busy")}
        row["pools"] = sorted({f"{pool['model']}: {pool['reason'].split(' (')[0]}" for f in occupied for pool in f["pools"]})
    return row


def steps(quick: bool) -> list[dict[str, Any]]:
    """Epochs of K small trials: one array (packed, by vmap) against one after another, and what the timing would choose."""
    import torch

    from trainables.config import TrainConfig
    from trainables.data import DataConfig, load_splits
    from trainables.image_model import ImageModel
    from trainables.slots.alone import serial
    from trainables.slots.array import SlotArray
    from trainables.slots.gains import Gains
    from trainables.slots.pool import Packed
    from trainables.slots.stacked import stack
    from trainables.slots.timing import bucket

    torch.set_num_threads(1)
    nets = {
        "cnn_a width 4, 8 px, batch 16": (TrainConfig(model="cnn_a", width=4, batch_size=16, epochs=1000), 8, (4, 16, 64)),
        "cnn_b width 8, 16 px, batch 16": (TrainConfig(model="cnn_b", width=8, batch_size=16, epochs=1000), 16, (4, 16, 64)),
        "cnn_b width 32, 32 px, batch 64": (TrainConfig(model="cnn_b", width=32, batch_size=64, epochs=1000), 32, (4,)),
    }
    rows = []
    for label, (config, side, sizes) in nets.items():
        splits = load_splits(DataConfig(source="digits", image_size=side, limit=420))
        for slots in sizes if not quick else (4,):
            made = [[ImageModel(config.replace(seed=seed), splits) for seed in range(slots)] for _ in range(3)]
            packed, stacked = Packed(), Packed(make=functools.partial(SlotArray, build=stack))
            with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(os.environ, XDG_CACHE_HOME=folder):
                gain = Gains(made[0][0]).gain(bucket(slots))  # measured now, never remembered
            ways = {"one after another": lambda m=made[0]: serial(m), "one array": lambda m=made[1], p=packed: p(m),
                    "by vmap": lambda m=made[2], p=stacked: p(m)}  # fmt: skip
            row = _interleaved(ways, rounds=2 if quick else 5)
            ratio = round(row["one after another"] / row["one array"], 2)
            rows.append({"net": label, "slots": slots, "cpu_s_an_epoch": row, "ratio": ratio,
                         "vmap_ratio": round(row["one after another"] / row["by vmap"], 2), "timing_says": round(gain, 2),
                         "after_choice": ratio if gain >= 1 else 1.0})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def heads(quick: bool) -> dict[str, Any]:
    """An epoch (validation included) of a trial on a frozen ResNet-18: cached features against the live backbone."""
    import torch

    from trainables import image_model
    from trainables.config import TrainConfig
    from trainables.data import DataConfig, load_splits

    torch.set_num_threads(1)
    side, limit = (64, 120) if quick else (224, 480)
    splits = load_splits(DataConfig(source="digits", image_size=side, channels=3, limit=limit))
    rows: dict[str, Any] = {"side": side, "images": len(splits.train.images) + len(splits.val.images)}
    for depth, label in (("head", "head only"), ("last_1", "from the last stage on")):
        config = TrainConfig(model="resnet18", finetune_depth=depth, batch_size=16, epochs=1000, image_size=side)
        cached = image_model.ImageModel(config, splits)
        own, image_model.open_features = image_model.open_features, lambda *_, **__: None  # type: ignore[assignment]
        try:
            live = image_model.ImageModel(config, splits)
        finally:
            image_model.open_features = own
        assert cached.features is not None and live.features is None
        cached.step()  # computes and keeps the features
        row = _interleaved({"live": lambda m=live: m.step(), "cached": lambda m=cached: m.step()}, rounds=1 if quick else 3)
        rows[label] = {"cpu_s_an_epoch": row, "ratio": round(row["live"] / row["cached"], 1)}
        print(label, rows[label], flush=True)
    return rows


def _interleaved(ways: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Return each way's median CPU seconds, the first round left out where there are several; short ones fill FILLED_S."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + (rounds > 1)):
        for name, work in ways.items():
            started, done = time.process_time(), 0
            while not done or time.process_time() - started < FILLED_S:
                work()
                done += 1
            times[name].append((time.process_time() - started) / done)
    return {name: round(statistics.median(found[rounds > 1 :]), 5) for name, found in times.items()}


def augmentation() -> list[dict[str, Any]]:
    """Return what `augmentation.py` has written."""
    path = RESULTS / "augmentation.json"
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def machine() -> dict[str, Any]:
    """Return where and with what this ran."""
    import torch

    info = Path("/proc/cpuinfo")
    names = (
        [x.partition(":")[2].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        if info.is_file()
        else []
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: not run on a GPU"
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "ray", "mlflow", "optuna")}
    return {
        "processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "gpu": gpu,
        "python": platform.python_version(), **versions, "load": [round(value, 1) for value in os.getloadavg()],
    }  # fmt: skip


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report as tables."""
    lines = []
    for name, part in report.items():
        where = part["machine"]
        host = f"{where['processor']}, {where['cores']} cores, GPU {where['gpu']}, torch {where['torch']}, ray {where['ray']}"
        lines += [f"## {name}", "", f"`{part['command']}`, {host}, load {where['load']} at the start.", ""]
        lines += [f"{part['note']}", ""] if part.get("note") else []  # written by hand: what disturbed the run
        found = part["found"]
        if "medians" in found:
            lines += [f"{found['case']}; {found['trials']} trials, medians of {found['rounds']} runs, start-up included.", ""]
            lines += [
                "| way | trials | wall s | CPU s | trials/h | wall ratio | CPU ratio | peak MB | best | epochs | held | busy |",
                "|" + "---|" * 12,
            ]
            for way, m in found["medians"].items():
                cells = [
                    m.get("trials", found["trials"]),
                    m["wall_s"],
                    m["cpu_s"],
                    m["trials_per_hour"],
                    f"{m['wall_ratio']}x",
                    f"{m['cpu_ratio']}x",
                    m["peak_mb"],
                ]
                cells += [f"{m['best']:.3f}", m["epochs"], m.get("occupancy", ""), m.get("device_busy", "")]
                lines += [f"| {way} | " + " | ".join(str(cell) for cell in cells) + " |"]
            lines += ["", *(f"{way}: {'; '.join(m['pools'])}." for way, m in found["medians"].items() if m.get("pools"))]
        else:
            lines += ["```", *(json.dumps(row) for row in (found if isinstance(found, list) else [found])), "```"]
        lines += [""]
    return "\n".join(lines)


def main() -> None:
    """Run the rows asked for and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one round: shows that the script runs")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--search", nargs="+", default=["small:6", "small:64"], metavar="CASE:TRIALS[:PLAIN_TRIALS]", help=", ".join(cases())
    )
    parser.add_argument(
        "--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="sides; the reference is always one"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    path = options.out / "throughput.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def run(name: str, work: Callable[[], Any]) -> None:
        before = machine()
        report[name] = {
            "command": " ".join(["python", "benchmarks/throughput.py", *sys.argv[1:]]),
            "machine": before,
            "found": work(),
        }
        options.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        path.with_suffix(".md").write_text(markdown(report))

    if "augmentation" in options.rows:
        run("augmentation, images per CPU second (from augmentation.py)", augmentation)
    if "steps" in options.rows:
        run(STEPS, lambda: steps(options.quick))
    if "heads" in options.rows:
        run("cached features against a live frozen backbone", lambda: heads(options.quick))
    if "searches" in options.rows:
        for wanted in ["trivial:2"] if options.quick else options.search:
            case, trials, *fewer = wanted.split(":")
            rounds = 1 if options.quick else options.rounds
            ways = {name: WAYS[name] for name in dict.fromkeys(["plain", *options.ways])}
            plain_trials = int(fewer[0]) if fewer else int(trials)
            work = functools.partial(searches, case, int(trials), plain_trials, rounds, ways)
            run(f"search, {case}, {trials} trials", work)


if __name__ == "__main__":
    sys.exit(main())
