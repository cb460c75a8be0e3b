"""Which way of training K equal-shaped trials at once is fastest on this device, and how near its limits that comes.

Run: python benchmarks/device_steps.py [--slots 1 2 4 8 16 32] [--nets cnn_128 resnet20] [--precisions bf16 fp32]
     python benchmarks/device_steps.py --quick --device cpu     (tiny sizes, K = 1 and 2: shows that the script runs)
Writes benchmarks/results/device_steps.{json,md} after each K (--quick only prints, unless --out says where to write); nets of
an earlier run that are not asked for again stay as they are. Needs torch, torchvision and scikit-learn, neither Ray nor MLflow.

Each way is timed in rounds that alternate with (a), one after another and eager, so that only the two hold memory at once; the
ratio is that of the two medians, (a)'s own time the median of all its rounds. A step is forward, backward, clipping and the
optimiser's step of all K; data, augmentation and scores are left out. An epoch is a trial's 50,000 images at that rate; its
floor the FLOPs of convolutions and products alone at the rate of a large matrix product, measured in the same run.
Not run on a GPU so far: streams and CUDA graphs are what no run on a CPU shows to work.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from device_limits import EPOCH, Limits, Work, limits, work_of
from device_table import RESULTS, Report, facts, line, read, write
from device_ways import WAYS, NotPossible, Run, Trials, trials_of

from trainables.allocator import keep_freed_memory, out_of_memory
from trainables.config import TrainConfig
from trainables.data import DataConfig, Splits, load_splits
from trainables.image_model import ImageModel
from trainables.runtime import choose_device
from trainables.slots.layers import NotPackable
from trainables.timing import device_name, now

BASE = TrainConfig(optimizer="sgd", lr=0.01, weight_decay=5e-4, dropout=0.0, batch_size=128)
NETS: dict[str, tuple[TrainConfig, str]] = {
    "cnn_128": (BASE.replace(model="cnn_b", width=32), "cnn_b of width 32, batch 128"),
    "cnn_512": (BASE.replace(model="cnn_b", width=32, batch_size=512), "cnn_b of width 32, batch 512"),
    "resnet18": (BASE.replace(model="cifar_resnet18"), "cifar_resnet18, batch 128"),
    "resnet20": (BASE.replace(model="cifar_resnet", depth=20), "cifar_resnet of depth 20, batch 128"),
}
PRECISIONS = ("bf16", "fp32")
"""Each in the memory format that the product takes for it: on a GPU channels_last in bf16 alone, on a CPU in both."""
SLOTS = (1, 2, 4, 8, 16, 32)
QUICK_NETS, QUICK_SLOTS = ("cnn_128", "resnet20"), (1, 2)
SIDE, WARM, ROUND_S, MOST = 32, 3, 0.05, 50
"""Pixels; steps before the timing; on a GPU a round takes so many seconds or steps, whichever is less (on a CPU: one step)."""


def measure(trials: Trials, work: Work, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each way: its time, rate, ratio to the first way and memory, or why it is not possible."""
    device, (reference, *others) = trials.model.device, WAYS
    first, row = _made(reference, trials)
    own = interleaved([first], device, rounds=rounds, seconds=seconds)[0] if first else []
    rows: dict[str, dict[str, Any]] = {}
    for way in others:
        rows[way], median, beside = _compared(way, first, trials, rounds=rounds, seconds=seconds)
        rows[way] |= _figures(median, trials, work) if median else {}
        own += beside
    if own:
        row |= _figures(statistics.median(own), trials, work) | {"ratio": 1.0}
    return [{"slots": trials.slots, "way": way, **found} for way, found in ({reference: row} | rows).items()]


def _compared(
    way: str, first: Run | None, trials: Trials, *, rounds: int, seconds: float
) -> tuple[dict[str, Any], float, list[float]]:
    """Return a way's row, its median seconds (0: not possible) and those of the reference in between; holds nothing after."""
    run, row = _made(way, trials)
    if not run:
        return row, 0.0, []
    runs = [first, run] if first else [run]
    try:
        *beside, own = interleaved(runs, trials.model.device, rounds=rounds, seconds=seconds)
    except RuntimeError as error:
        return {"not_possible": f"{_reason(error)} in the timing, beside the reference"}, 0.0, []
    median = statistics.median(own)
    times = beside[0] if beside else []
    return row | {"ratio": statistics.median(times) / median if times else None}, median, times


def _made(way: str, trials: Trials) -> tuple[Run | None, dict[str, Any]]:
    """Make a way and take its first steps; returns it with the memory it took, or None with the reason."""
    device = trials.model.device
    before = 0
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)
    try:
        run = WAYS[way][1](trials)
        for _ in range(WARM):
            run()
        now(device)  # what goes wrong on a GPU is raised here
    except (RuntimeError, NotPackable) as error:  # whatever one way meets, the others are still to be measured
        return None, {"not_possible": _reason(error)}
    # reserved, not allocated: what a graph keeps for its replays counts as free once it is recorded
    peak = torch.cuda.max_memory_reserved(device) - before if device.type == "cuda" else None
    return run, {"peak_bytes": peak}


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError) and out_of_memory(error):
        return "out of memory"
    said = str(error).splitlines()[0] if str(error) else "no reason given"
    return said if isinstance(error, NotPossible | NotPackable) else f"{type(error).__name__}: {said}"


def _figures(median: float, trials: Trials, work: Work) -> dict[str, Any]:
    rate = trials.slots * trials.model.config.batch_size / median
    epoch = EPOCH / rate
    return {
        "ms": 1e3 * median,
        "images_per_s": rate,
        "epoch_s": epoch,
        "floor_share": work.floor_s / epoch,
        "traffic_share": work.traffic_s / epoch,
    }


def interleaved(runs: Sequence[Run], device: torch.device, *, rounds: int, seconds: float) -> list[list[float]]:
    """Return each run's seconds a step in rounds that alternate; those end after `seconds`, though not before the third."""
    counts = [1 if device.type == "cpu" else _steps_of_a_round(run, device) for run in runs]
    times: list[list[float]] = [[] for _ in runs]
    begun = time.perf_counter()
    for number in range(rounds):
        for run, count, found in zip(runs, counts, times, strict=True):
            found.append(_seconds(run, device, count))
        if number >= 2 and time.perf_counter() - begun > seconds:
            break
    return times


def _steps_of_a_round(run: Run, device: torch.device) -> int:
    return max(1, min(MOST, int(ROUND_S / _seconds(run, device, 1))))


def _seconds(run: Run, device: torch.device, steps: int) -> float:
    started = now(device)
    for _ in range(steps):
        run()
    return (now(device) - started) / steps


def build(name: str, precision: str, splits: Splits, options: argparse.Namespace) -> ImageModel:
    """Return the net that all trials are copies of."""
    config = NETS[name][0].replace(device=options.device, precision=precision)
    if options.quick:
        config = config.replace(width=4, depth=8, batch_size=8)
    return ImageModel(config, splits)


def machine(device: torch.device) -> dict[str, Any]:
    """Return where and with what this runs."""
    cuda = device.type == "cuda"
    return {
        "device": device_name(device),
        "gpu": torch.cuda.get_device_name(device) if cuda else "not run on a GPU",
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def run(options: argparse.Namespace, keep: Callable[[str, Report], None]) -> None:
    """Measure every net in every precision and hand over what is known after each K."""
    device = choose_device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    host = machine(device)
    print(f"{host['device']}, torch {host['torch']}" + ("" if device.type == "cuda" else ": not run on a GPU"), flush=True)
    splits = load_splits(DataConfig(source="digits", image_size=SIDE, channels=3, limit=200))
    side, megabytes = (256, 16) if options.quick else (1024, 128) if device.type == "cpu" else (8192, 2048)
    rounds, seconds = (2, 0.0) if options.quick else (options.rounds, options.seconds)
    for precision in options.precisions:
        limit = limits(precision, device, side=side, megabytes=megabytes)
        for name in options.nets:
            model = build(name, precision, splits, options)
            sample = trials_of(model, 1)
            work = work_of(model, sample.images[0], sample.targets[0], limit)
            report = _report(name, host, limit, work, options) | {"memory_format": model.config.memory_format}
            print(f"{name}, {precision}:", *facts(report), flush=True)
            for slots in options.slots:
                report["rows"] += measure(trials_of(model, slots), work, rounds=rounds, seconds=seconds)
                keep(f"{name}, {precision}", report)


def _report(name: str, host: dict[str, Any], limit: Limits, work: Work, options: argparse.Namespace) -> Report:
    command = " ".join(["python", "benchmarks/device_steps.py", *sys.argv[1:]])
    net = "a tiny stand-in (--quick)" if options.quick else NETS[name][1]
    return {
        "command": command, "machine": host, "net": net,
        "limits": {"flop_per_s": limit.flops, "bytes_per_s": limit.bytes, "arithmetic": limit.arithmetic},
        "work": work.to_dict(), "rows": [],
    }  # fmt: skip


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options; what --quick makes small is small unless it is asked for by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, K = 1 and 2: shows that the script runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--slots", nargs="+", type=int, metavar="K", help=f"default: {' '.join(map(str, SLOTS))}")
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), help="default: all")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a pair of ways, after which fewer rounds must do")
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {RESULTS.name}; of --quick: none)")
    options = parser.parse_args(given)
    options.slots = options.slots or (QUICK_SLOTS if options.quick else SLOTS)
    options.nets = options.nets or (QUICK_NETS if options.quick else tuple(NETS))
    options.out = options.out or (None if options.quick else RESULTS)
    return options


def main(given: Sequence[str] | None = None) -> dict[str, Report]:
    """Measure, print and write what is known after each K; returns what was measured."""
    options = arguments(given)
    keep_freed_memory()
    found: dict[str, Report] = {}

    def keep(name: str, report: Report) -> None:
        found[name] = report
        if options.out:
            write(options.out, read(options.out) | found)
        latest = report["rows"][-len(WAYS) :]
        print(*(f"{name}, {line(row)}" for row in latest), sep="\n", flush=True)

    run(options, keep)
    return found


if __name__ == "__main__":
    main()
