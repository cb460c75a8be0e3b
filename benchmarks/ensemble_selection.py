"""Ensemble selection beside AutoGluon's and phem's greedy selection, on the same arrays: CPU time, weights, held-out scores.

Run:  python benchmarks/ensemble_selection.py                      (all sizes; an hour on two cores)
      python benchmarks/ensemble_selection.py --members 50 --classes 10
      python benchmarks/ensemble_selection.py --pool pool.npz      (a real pool: val_probs, val_labels, test_probs, test_labels)

Both are installed into a throw-away environment (`--anchor-env` keeps and reuses one; phem without its dependencies, which its
greedy selection does not need and some of which no longer build). All sides run on one thread and report process CPU seconds.
Where an anchor would take minutes it runs fewer iterations, and its time is scaled to 25 (each iteration costs the same);
weights are compared at the iterations that both ran. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import numpy as np  # noqa: E402 - the thread count is read when it loads

ANCHOR, PHEM = "autogluon.core==1.6.3", "phem==0.0.0.2"
ROWS, ITERATIONS = 10_000, 25
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs every size asked for and writes the table."""
    asked = _arguments()
    if asked.anchor:
        print(json.dumps((phem if asked.metric == "phem" else anchor)(Path(asked.anchor), asked.metric, asked.iterations)))
        return
    with tempfile.TemporaryDirectory(dir=asked.scratch) as scratch:
        python = anchor_python(Path(asked.anchor_env) if asked.anchor_env else Path(scratch) / "anchor")
        cases = []
        for name, members, classes in _cases(asked):
            folder = Path(scratch) / name
            folder.mkdir()
            if asked.pool:
                unpack_pool(Path(asked.pool), folder)
            else:
                make_pool(folder, members, classes, seed=asked.seed)
            cases.append({"case": name, **compare(folder, python)})
            for file in folder.iterdir():
                file.unlink()
            print(json.dumps(cases[-1]), flush=True)
            write_results(cases, asked)


def make_pool(folder: Path, members: int, classes: int, *, seed: int) -> None:
    """Writes a synthetic pool: shared difficulty, five families, own noise, 12 % diverged, temperatures exp(N(.45, .35))."""
    rng = np.random.default_rng(seed)
    family_of = rng.integers(0, 5, members)
    skill_M = rng.uniform(2.0, 3.2, members) * np.where(rng.random(members) < 0.12, 0.1, 1.0)
    scale_M = np.exp(rng.normal(0.45, 0.35, members))
    for split in ("val", "test"):
        labels_N = rng.integers(0, classes, ROWS)
        shared_NC = rng.standard_normal((ROWS, classes), dtype=np.float32)
        family_FNC = 0.7 * rng.standard_normal((5, ROWS, classes), dtype=np.float32)
        out = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, (members, ROWS, classes))
        for m in range(members):
            logits_NC = shared_NC + family_FNC[family_of[m]] + 0.9 * rng.standard_normal((ROWS, classes), dtype=np.float32)
            logits_NC[np.arange(ROWS), labels_N] += skill_M[m] * (1.0 + 0.25 * np.log(classes / 10.0))
            logits_NC *= scale_M[m]
            np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True), out=logits_NC)
            out[m] = logits_NC / logits_NC.sum(axis=1, keepdims=True)
        np.save(folder / f"{split}_labels.npy", labels_N)


def unpack_pool(pool: Path, folder: Path) -> None:
    """Writes a real pool's arrays as the files that both sides read."""
    with np.load(pool) as arrays:
        for split in ("val", "test"):
            probs = arrays[f"{split}_probs"].astype(np.float32)
            np.save(folder / f"{split}.npy", probs / probs.sum(axis=2, keepdims=True))
            np.save(folder / f"{split}_labels.npy", arrays[f"{split}_labels"].astype(np.int64))


def anchor_python(folder: Path) -> Path:
    """The interpreter of AutoGluon's environment, made when it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", ANCHOR], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", PHEM], check=True)
    return python


def anchor(folder: Path, metric: str, iterations: int) -> dict[str, Any]:
    """AutoGluon's side, run by its own interpreter: CPU seconds, weights, and the picks in order."""
    import warnings

    from autogluon.core import metrics
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    warnings.simplefilter("ignore")
    probs, labels = list(np.load(folder / "val.npy")), np.load(folder / "val_labels.npy")
    selection = EnsembleSelection(iterations, "multiclass", getattr(metrics, metric), tie_breaker="second_metric")
    start = time.process_time()
    selection.fit(probs, labels)
    seconds = time.process_time() - start
    return {"seconds": seconds, "weights": selection.weights_.tolist()}


def phem(folder: Path, metric: str, iterations: int) -> dict[str, Any]:
    """phem's side: its greedy selection by log-loss, in one process."""
    from functools import partial

    from phem.base_utils.metrics import make_metric
    from phem.methods.ensemble_selection import EnsembleSelection
    from sklearn.metrics import log_loss

    probs, labels = list(np.load(folder / "val.npy")), np.load(folder / "val_labels.npy")
    scored = make_metric(
        partial(log_loss, labels=np.arange(probs[0].shape[1])), metric_name=metric, maximize=False, classification=True,
        always_transform_conf_to_pred=False, optimum_value=0, requires_confidences=True,
    )  # fmt: skip
    selection = EnsembleSelection([None] * len(probs), iterations, scored, n_jobs=1, random_state=0)
    start = time.process_time()
    selection.ensemble_fit(probs, labels)
    return {"seconds": time.process_time() - start, "weights": np.asarray(selection.weights_).tolist()}


def compare(folder: Path, python: Path) -> dict[str, Any]:
    """One size: both sides' CPU seconds, whether the weights agree, and held-out scores of each side's choice."""
    probs, labels = np.load(folder / "val.npy", mmap_mode="r"), np.load(folder / "val_labels.npy")
    members, rows, classes = probs.shape
    found: dict[str, Any] = {"members": members, "rows": rows, "classes": classes}
    chosen = {}
    iterations = _affordable(members, rows, classes)
    for metric in ("log_loss", "accuracy"):
        theirs = run_anchor(python, folder, metric, iterations)
        seconds, weights = timed(lambda metric=metric: greedy(probs, labels, metric, ITERATIONS))
        same = weights if iterations == ITERATIONS else greedy(probs, labels, metric, iterations)
        scaled = theirs["seconds"] * ITERATIONS / iterations
        found[metric] = {
            "autogluon_seconds": round(scaled, 3),
            "autogluon_iterations": iterations,
            "our_seconds": round(seconds, 4),
            "ratio": round(scaled / seconds, 1),
            "largest_weight_difference": float(np.abs(same - np.array(theirs["weights"])).max()),
        }
        chosen[metric] = weights
    theirs = run_anchor(python, folder, "phem", iterations)
    scaled = theirs["seconds"] * ITERATIONS / iterations
    same = greedy(probs, labels, "log_loss", iterations)
    found["phem"] = {
        "phem_seconds": round(scaled, 3),
        "ratio": round(scaled / found["log_loss"]["our_seconds"], 1),
        "largest_weight_difference": float(np.abs(same - np.array(theirs["weights"])).max()),
    }
    found |= default_end_to_end(probs, labels, found["log_loss"]["autogluon_seconds"])
    return found | held_out(folder, probs, labels, chosen["log_loss"])


def run_anchor(python: Path, folder: Path, metric: str, iterations: int) -> dict[str, Any]:
    """What the anchor of a metric says, run by its own interpreter."""
    command = [python, __file__, "--anchor", folder, "--metric", metric, "--iterations", str(iterations)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def greedy(probs: Any, labels: Any, metric: str, iterations: int) -> Any:
    """Our greedy weights, the gathering of the true-class matrix included."""
    from orchestrator.ensemble.greedy import Accuracy, TrueClassLogLoss, greedy_selection

    if metric == "accuracy":
        objective: Any = Accuracy([np.asarray(p) for p in probs], labels)
    else:
        rows = np.arange(len(labels))
        objective = TrueClassLogLoss(np.stack([member[rows, labels] for member in probs]))
    return greedy_selection(objective, n_members=len(probs), iterations=iterations).weights_M


def default_end_to_end(probs: Any, labels: Any, anchor_seconds: float) -> dict[str, Any]:
    """The default (temperatures, convex weights, pruning, pooled temperature), and with its cross-fitted judgement."""
    from orchestrator.ensemble.build import EnsembleSpec, fit_ensemble
    from orchestrator.ensemble.convex import log_loss_objective, minimise_on_simplex

    ids = [str(m) for m in range(len(probs))]
    plain, _ = timed(lambda: fit_ensemble(probs, labels, spec=EnsembleSpec(folds=0), member_ids=ids, seed=0))
    judged, _ = timed(lambda: fit_ensemble(probs, labels, spec=EnsembleSpec(folds=5), member_ids=ids, seed=0))
    target = np.stack([member[np.arange(len(labels)), labels] for member in probs])
    optimum, result = timed(lambda: minimise_on_simplex(log_loss_objective(target), len(target)))
    return {
        "default": {"our_seconds": round(plain, 3), "ratio": round(anchor_seconds / plain, 1)},
        "default_cross_fitted": {"our_seconds": round(judged, 3), "ratio": round(anchor_seconds / judged, 1)},
        "convex_without_l2": {"our_seconds": round(optimum, 3), "certified_gap": result.gap},
    }


def held_out(folder: Path, probs: Any, labels: Any, anchor_weights: Any) -> dict[str, Any]:
    """Test log-loss and accuracy of AutoGluon's weights (with a pooled temperature) and of ours, with paired intervals."""
    from orchestrator.ensemble.build import EnsembleSpec, fit_ensemble
    from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
    from orchestrator.ensemble.gate import paired_difference
    from orchestrator.ensemble.metrics import METRICS
    from orchestrator.ensemble.voting import soft

    test, test_labels = np.load(folder / "test.npy", mmap_mode="r"), np.load(folder / "test_labels.npy")
    used = np.flatnonzero(anchor_weights)
    temperature = fit_temperature(soft((probs[m] for m in used), anchor_weights[used]), labels)
    anchor_out = apply_temperature(soft((test[m] for m in used), anchor_weights[used]), temperature)
    rows = {"autogluon + temperature": {"members": len(used), **_scores(anchor_out, test_labels, METRICS)}}
    ids = [str(m) for m in range(len(probs))]
    for method in ("convex", "greedy", "log_pool"):
        ensemble = fit_ensemble(probs, labels, spec=EnsembleSpec(method=method, folds=0), member_ids=ids, seed=0)
        out = ensemble.combine(test[m] for m in ensemble.members)
        rows[method] = {"members": len(ensemble.members), **_scores(out, test_labels, METRICS)}
        for metric in ("log_loss", "accuracy"):
            interval = paired_difference(out, anchor_out, test_labels, metric=metric, seed=0)
            rows[method][f"{metric}_difference"] = [round(value, 5) for value in interval]
    return {"held_out": rows}


def _scores(out: Any, labels: Any, metrics: Any) -> dict[str, float]:
    return {name: round(metrics[name].function(out, labels), 5) for name in ("accuracy", "log_loss", "ece")}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of the faster of two runs (the first one pays for imports), and the result."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def write_results(cases: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    """The figures as JSON and as a short markdown table."""
    sizes = f"--members {' '.join(map(str, asked.members))} --classes {' '.join(map(str, asked.classes))}"
    command = f"python benchmarks/ensemble_selection.py {f'--pool {Path(asked.pool).name}' if asked.pool else sizes}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    head = {"command": command, "machine": machine, "date": time.strftime("%Y-%m-%d"), "anchors": [ANCHOR, PHEM]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{asked.name}.json").write_text(json.dumps({**head, "cases": cases}, indent=1) + "\n")
    lines = [
        f"`{head['command']}`, {head['date']}, {machine}, one thread, {ANCHOR}, {PHEM} (greedy, log-loss), "
        "CPU seconds; ~ scaled from fewer iterations.",
        "",
        "| M, N, C | AutoGluon log-loss | ours | ratio | phem | ratio | AutoGluon accuracy | ours | ratio "
        "| default | ratio | cross-fitted | gap |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_speed_line(case) for case in cases]
    lines += [
        "",
        "| M, N, C | method | members | accuracy | log-loss | ECE | log-loss minus AutoGluon's [95 %] | accuracy minus |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [line for case in cases for line in _quality_lines(case)]
    (RESULTS / f"{asked.name}.md").write_text("\n".join(lines) + "\n")


def _speed_line(case: dict[str, Any]) -> str:
    cells = [f"{case['members']}, {case['rows']}, {case['classes']}"]
    for metric in ("log_loss", "accuracy"):
        one = case[metric]
        scaled = "" if one["autogluon_iterations"] == ITERATIONS else "~"
        equal = "" if one["largest_weight_difference"] < 1e-9 else " (weights differ)"
        cells += [f"{scaled}{one['autogluon_seconds']:.1f}", f"{one['our_seconds']:.3f}{equal}", f"**{one['ratio']:.0f}x**"]
        if metric == "log_loss":
            cells += [f"{scaled}{case['phem']['phem_seconds']:.1f}", f"**{case['phem']['ratio']:.0f}x**"]
    default, judged = case["default"], case["default_cross_fitted"]
    cells += [f"{default['our_seconds']:.2f}", f"**{default['ratio']:.0f}x**", f"{judged['our_seconds']:.2f}"]
    return "| " + " | ".join([*cells, f"{case['convex_without_l2']['certified_gap']:.1e}"]) + " |"


def _quality_lines(case: dict[str, Any]) -> list[str]:
    lines = []
    for method, row in case["held_out"].items():
        loss, acc = (
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row[key]) if key in row else ""
            for key in ("log_loss_difference", "accuracy_difference")
        )
        lines.append(
            f"| {case['members']}, {case['rows']}, {case['classes']} | {method} | {row['members']} | {row['accuracy']:.4f} "
            f"| {row['log_loss']:.4f} | {row['ece']:.4f} | {loss} | {acc} |"
        )
    return lines


def _affordable(members: int, rows: int, classes: int) -> int:
    """AutoGluon's iterations: all 25 up to about a minute, then fewer."""
    return ITERATIONS if members * rows * classes <= 60_000_000 else 3 if members * rows * classes <= 300_000_000 else 1


def _cases(asked: argparse.Namespace) -> list[tuple[str, int, int]]:
    if asked.pool:
        return [(Path(asked.pool).stem, 0, 0)]
    return [(f"M{members}_C{classes}", members, classes) for classes in asked.classes for members in asked.members]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--pool", help="an .npz with a real pool")
    parser.add_argument("--name", default="ensemble_selection", help="stem of the result files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anchor-env", help="folder of AutoGluon's environment, made when absent and kept")
    parser.add_argument("--scratch", help="folder for the arrays (up to 8 GB)")
    parser.add_argument("--anchor", help=argparse.SUPPRESS)
    parser.add_argument("--metric", help=argparse.SUPPRESS)
    parser.add_argument("--iterations", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
