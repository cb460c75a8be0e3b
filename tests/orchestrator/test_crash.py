"""A search on a real Ray that is killed, resumed and extended, interrupted, and resumed again: nothing lost, nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.flaky(reruns=1), pytest.mark.timeout(1500)]

DRIVER = '''
import json, os, signal, sys
from orchestrator.config import Experiment
from orchestrator.errors import Interrupted
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker

job = json.loads(sys.argv[1])

class Fate(NullTracker):
    """Writes down which runs are opened; at one epoch of one trial the driver gets its signal."""

    def trial_started(self, trial_id, params, tags):
        with open(job["runs"], "a") as file:
            file.write(json.dumps([trial_id, params]) + "\\n")

    def trial_epoch(self, trial_id, metrics, epoch):
        if [trial_id, epoch] == job["at"]:
            if job["signal"] == signal.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)
            os.killpg(os.getpgrp(), job["signal"])  # Ray's processes too, as `timeout` and Slurm do

if __name__ == "__main__":
    experiment = Experiment.model_validate(job["experiment"], strict=False)
    try:
        run_search(experiment, Workspace(experiment.run_path), Fate(), resume=job["resume"], extra_trials=job["extra"],
                   progress=Silent())
    except Interrupted as error:
        print(error)
        sys.exit(error.exit_code)
'''


def experiment(root: Path, **search: Any) -> dict[str, Any]:
    """Return a small search on the digits as its plain form."""
    space = {"name": "tiny", "constants": {"epochs": 4}, "dimensions": {"lr": {"float": [1e-3, 5e-2], "log": True}}}
    (root / "space.yaml").write_text(json.dumps(space))
    chosen = {"trials": 5, "space": str(root / "space.yaml"), "grace_epochs": 2, "reduction_factor": 2}
    return {
        "name": "crash", "run_dir": str(root / "runs"), "data": {"source": "digits", "limit": 200},
        "train": {"model": "cnn_a", "width": 4, "device": "cpu"}, "search": {**chosen, **search}, "tracking": {"uri": "none"},
    }  # fmt: skip


def drive(
    root: Path, *, at: tuple[str, int] | None = None, sig: int = 0, resume: bool = False, extra: int = 0, workers: int = 1
) -> tuple[int, str]:
    """Run the driver to its end; returns its exit code and what it said."""
    job = {"experiment": experiment(root, concurrency=workers), "at": at, "signal": sig, "resume": resume, "extra": extra}
    job["runs"] = str(root / "runs.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(job)], capture_output=True, text=True, cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL, timeout=450, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Kill -9 in mid-search; resume with two more trials, SIGTERM for all processes among them; resume to the end."""
    root = tmp_path_factory.mktemp("crash")
    workspace = Workspace(root / "runs" / "crash")
    found: dict[str, Any] = {"root": root, "workspace": workspace, "ends": [], "after": []}
    for step in (
        {"at": ("t0002", 1), "sig": int(signal.SIGKILL)},
        {"at": ("t0005", 1), "sig": int(signal.SIGTERM), "resume": True, "extra": 2, "workers": 2},
        {"resume": True},
    ):
        found["ends"].append(drive(root, **step))
        found["after"].append(read_events(workspace.ledger))
    return found


def test_each_driver_ends_as_its_signal_says(lived: dict[str, Any]) -> None:
    codes = [code for code, _ in lived["ends"]]
    assert codes == [-signal.SIGKILL, 143, 0], lived["ends"]
    assert "interrupted by SIGTERM" in lived["ends"][1][1] and "--resume" in lived["ends"][1][1]
    assert "Traceback" not in lived["ends"][1][1] + lived["ends"][2][1]


def test_all_trials_end_once_and_none_is_made_twice(lived: dict[str, Any]) -> None:
    logs = trial_logs(lived["after"][-1])
    assert list(logs) == [f"t{i:04d}" for i in range(7)]
    assert {log.status for log in logs.values()} <= {"finished", "stopped"}
    events = Counter((e["event"], e["trial_id"]) for e in lived["after"][-1] if e["event"] in ("created", "ended"))
    assert set(events.values()) == {1} and len(events) == 14
    assert len({json.dumps(log.spec.config) for log in logs.values()}) == 7, "no configuration was proposed twice"


def test_no_epoch_is_heard_of_twice_and_none_is_missing(lived: dict[str, Any]) -> None:
    epochs = Counter((e["trial_id"], e["epoch"]) for e in lived["after"][-1] if e["event"] == "epoch")
    assert set(epochs.values()) == {1}
    for trial_id, log in trial_logs(lived["after"][-1]).items():
        record = lived["workspace"].load_record(trial_id)
        assert sorted(log.epochs) == list(range(1, record.epochs_run + 1))


def test_what_had_ended_is_not_run_again(lived: dict[str, Any]) -> None:
    for before, after in zip(lived["after"], lived["after"][1:], strict=False):
        done = {trial_id for trial_id, log in trial_logs(before).items() if log.status}
        assert done or before is lived["after"][0]
        assert not done & {e["trial_id"] for e in after[len(before) :] if e["event"] in ("started", "epoch")}


def test_the_tracker_is_asked_for_one_run_a_trial_with_the_same_params(lived: dict[str, Any]) -> None:
    opened = [json.loads(line) for line in (lived["root"] / "runs.jsonl").read_text().splitlines()]
    params: dict[str, set[str]] = {}
    for trial_id, values in opened:
        params.setdefault(trial_id, set()).add(json.dumps(values, sort_keys=True))
    assert len(params) == 7 and all(len(found) == 1 for found in params.values())


def test_every_trial_keeps_its_probabilities_and_record(lived: dict[str, Any]) -> None:
    bank = PredictionBank(lived["workspace"])
    for record in lived["workspace"].load_records():
        assert record.usable and bank.get(record.trial_id, "val").shape[1] == 10
        accuracy = (bank.get(record.trial_id, "val").argmax(1) == bank.targets("val")).mean()
        assert accuracy == pytest.approx(record.score("accuracy"), abs=0.03), "float16 may tip a tie"
