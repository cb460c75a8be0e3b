"""Plain search with post-hoc selection against a search that is told the ensemble's gain, at equal budgets, over seeds.

Run: python benchmarks/search_objective.py [--seeds 5] [--trials 24] [--images 3000] [--epochs 4]        (hours on two cores)
     python benchmarks/search_objective.py --source digits --images 600 --trials 16 --epochs 5 --seeds 8

Fashion-MNIST (ORCHESTRATE_DATA, or shared/data beside this repository) or the built-in digits, small CNNs, TPE, no scheduler.
Both searches start from the same seed and split; the ensemble is chosen from the trials alone (no refits, soups or views) and
judged on the test split.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from restore_data import restore_fashion_mnist

RESULTS = Path(__file__).parent / "results"
OBJECTIVES = ("own", "ensemble_gain")


def one(objective: str, seed: int, asked: argparse.Namespace, root: Path, folder: Path) -> dict[str, float]:
    """Run one search and return the test scores of its ensemble and of its best single model."""
    from orchestrator.config import Experiment
    from orchestrator.context import open_run
    from orchestrator.stages.baseline import run_baseline
    from orchestrator.stages.ensemble import run_ensemble
    from orchestrator.stages.search import run_search_stage

    experiment = Experiment.model_validate(
        {
            "name": f"{objective}-{seed}", "run_dir": str(folder), "seed": seed,
            "data": {"source": asked.source, "root": str(root), "limit": asked.images, "split_seed": seed},
            "train": {"epochs": asked.epochs}, "tracking": {"uri": "none"},
            "search": {
                "space": "scratch", "trials": asked.trials, "scheduler": "none", "metric": "log_loss", "objective": objective,
                "backend": "local", "keep_weights": asked.trials,
            },
            "ensemble": {"refit": {"mode": "none"}, "soup": False, "tta": "none"},
        },
        strict=False,
    )  # fmt: skip
    started = time.process_time()
    with open_run(experiment, lambda _: None) as context:
        run_baseline(context)
        run_search_stage(context)
        rows = {row["name"]: row for row in run_ensemble(context)["judgement"]["rows"]}
    found = {
        f"{name} {key}": float(rows[name][key]) for name in ("ensemble", "best single") for key in ("accuracy", "log_loss")
    }
    return {**found, "members": float(rows["ensemble"]["members"]), "cpu_s": round(time.process_time() - started, 1)}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return means, and the paired difference (ensemble_gain minus own) with its 95 % interval by Student's t over seeds."""
    from scipy.stats import t

    found: dict[str, Any] = {}
    for key in runs["own"][0]:
        own, other = (np.array([run[key] for run in runs[name]]) for name in OBJECTIVES)
        gap, n = other - own, len(own)
        half = float(t.ppf(0.975, n - 1) * gap.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        found[key] = {
            "own": round(float(own.mean()), 5), "ensemble_gain": round(float(other.mean()), 5),
            "difference": round(float(gap.mean()), 5), "interval": [round(float(gap.mean()) + s * half, 5) for s in (-1, 1)],
        }  # fmt: skip
    return found


def main() -> None:
    """Run both searches seed by seed and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("fashion_mnist", "digits"), default="fashion_mnist")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--data", type=Path, help="folder of real data")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_objective.json")
    asked = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    source = (asked.data or Path(os.environ.get("ORCHESTRATE_DATA") or beside)) / "fashion-mnist"
    if asked.source != "digits" and not source.is_dir():
        raise SystemExit(f"{source}: Fashion-MNIST is not here; set ORCHESTRATE_DATA")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in OBJECTIVES}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        root = restore_fashion_mnist(source, Path(scratch)).parents[1] if asked.source != "digits" else Path(scratch)
        for seed in range(asked.seeds):
            for name in OBJECTIVES:
                runs[name].append(one(name, seed, asked, root, Path(scratch) / "runs"))
                print(seed, name, runs[name][-1], flush=True)
            report = {
                "command": " ".join(["python", "benchmarks/search_objective.py", *sys.argv[1:]]),
                "machine": f"{os.cpu_count()} CPUs ({platform.machine()})", "runs": runs, "summary": summary(runs),
            }  # fmt: skip
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["summary"], indent=1))


if __name__ == "__main__":
    main()
