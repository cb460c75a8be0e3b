"""One search as a process of its own: the plain way a Ray Tune script is written, or ours; `throughput.py` measures both.

Run: python benchmarks/searches.py plain|ray|slots --case small --trials 6 --folder SOMEWHERE
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import Any

from plain_search import plain
from restore_data import SOURCES, restore
from search_cases import GRACE, LR, REDUCTION, Case, cases


def ours(
    case: Case, backend: str, trials: int, folder: Path, slots: int, cpus_per_trial: float, precision: str
) -> dict[str, Any]:
    """Search with the same net, data, draws and scheduler as `orchestrate search` does, MLflow's tracker included."""
    from orchestrator.config import Experiment
    from orchestrator.context import open_run
    from orchestrator.search.ledger import read_events
    from orchestrator.search.progress import Silent
    from orchestrator.search.run import run_search

    atexit.register(gc.freeze)  # as the command line does

    space = {"name": "lr", "constants": {"epochs": case.epochs}, "dimensions": {"lr": {"float": list(LR), "log": True}}}
    (folder / "space.yaml").write_text(json.dumps(space))
    experiment = Experiment.model_validate(
        {
            "name": backend, "run_dir": str(folder / "runs"), "data": case.data(),
            "train": {**case.train(), "precision": precision},
            "search": {
                "space": str(folder / "space.yaml"), "trials": trials, "algorithm": "random", "grace_epochs": GRACE,
                "reduction_factor": REDUCTION, "scheduler": "asha" if case.epochs > GRACE else "none", "backend": backend,
                "slots": slots, "seed_baseline": False, "cpus_per_trial": cpus_per_trial,
            },
        },
        strict=False,
    )  # fmt: skip
    with open_run(experiment, print, verb="search", searches=True) as run:
        records = run_search(run.experiment, run.workspace, run.tracker, progress=Silent())
    failed = [record.trial_id for record in records if record.status == "failed"]
    assert not failed, f"failed: {failed}"
    told = [event for event in read_events(run.workspace.ledger) if event["event"] == "slots"]
    return {
        "best": max(record.score("accuracy") for record in records),
        "epochs": sum(record.epochs_run for record in records),
        "trials": len(records),
        "slots": {
            key: told[-1][key] for key in ("engines", "slots", "occupancy", "device_busy", "ticks", "slot_epochs", "pools")
        }
        if told
        else {},
    }


def main() -> None:
    """Run one search and write what it found to FOLDER/result.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("plain", "ray", "slots"))
    parser.add_argument("--case", choices=tuple(cases()), default="small")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--root", type=Path, help="where the data is restored already")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--cpus-per-trial", type=float, default=1.0)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    case = cases()[options.case]
    if case.source in SOURCES:
        root = options.root or restore(case.source, Path(case.root), options.folder / "data")
        case = dataclasses.replace(case, root=str(root))
    if options.way == "plain":
        found = plain(case, options.trials, options.folder)
    else:
        found = ours(
            case, options.way, options.trials, options.folder, options.slots, options.cpus_per_trial, options.precision
        )
    (options.folder / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
