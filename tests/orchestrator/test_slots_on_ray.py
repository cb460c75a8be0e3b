"""A search in slots on a real Ray: ordinary trials under ASHA, light proxies, and an engine that dies with its trials in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
    pytest.mark.ray,
    pytest.mark.flaky(reruns=1),
    pytest.mark.timeout(900),
]

DRIVER = '''
import json, os, signal, sys
from pathlib import Path
from orchestrator.config import Experiment
from orchestrator.search.progress import Lines
from orchestrator.search.run import run_search
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker

job = json.loads(sys.argv[1])

def processes(title):
    """Return the workers of that title below this process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    mine, grown = {os.getpid()}, True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in mine} - mine
        mine, grown = mine | below, bool(below)
    return [pid for pid in mine if Path(f"/proc/{pid}/cmdline").read_text().startswith(f"ray::{title}")]

class Killer(NullTracker):
    """At the sixth epoch of all it looks at the processes and kills an engine."""

    heard = 0

    def trial_epoch(self, trial_id, metrics, epoch):
        self.heard += 1
        if self.heard == 6:
            proxies = {pid: "libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in processes("SlotProxy")}
            engines = processes("EngineActor")
            Path(job["seen"]).write_text(json.dumps({"proxies_with_torch": list(proxies.values()), "engines": engines}))
            os.kill(engines[0], signal.SIGKILL)

if __name__ == "__main__":
    experiment = Experiment.model_validate(job["experiment"], strict=False)
    run_search(experiment, Workspace(experiment.run_path), Killer(), progress=Lines())
'''


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Search once, an engine being killed on the way."""
    root = tmp_path_factory.mktemp("slots")
    space = {"name": "tiny", "constants": {"epochs": 5}, "dimensions": {"lr": {"float": [1e-4, 5e-2], "log": True}}}
    (root / "space.yaml").write_text(json.dumps(space))
    experiment = {
        "name": "slots", "run_dir": str(root / "runs"), "data": {"source": "digits", "limit": 200},
        "train": {"model": "cnn_a", "width": 4, "device": "cpu"}, "tracking": {"uri": "none"},
        "search": {
            "trials": 10, "backend": "slots", "slots": 4, "space": str(root / "space.yaml"), "grace_epochs": 2,
            "reduction_factor": 2,
        },
    }  # fmt: skip
    job = {"experiment": experiment, "seen": str(root / "seen.json")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(job)], capture_output=True, text=True, cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    workspace = Workspace(root / "runs" / "slots")
    events = read_events(workspace.ledger)
    seen = json.loads((root / "seen.json").read_text())
    return {"workspace": workspace, "events": events, "said": done.stderr, "seen": seen}


def test_every_trial_ends_once_and_asha_stopped_some(lived: dict[str, Any]) -> None:
    logs = trial_logs(lived["events"])
    assert list(logs) == [f"t{i:04d}" for i in range(10)]
    assert {log.status for log in logs.values()} == {"finished", "stopped"}
    ended = Counter(event["trial_id"] for event in lived["events"] if event["event"] == "ended")
    assert set(ended.values()) == {1}


def test_the_trials_of_a_dead_engine_go_on_from_their_checkpoints(lived: dict[str, Any]) -> None:
    retried = {event["trial_id"] for event in lived["events"] if event["event"] == "retried"}
    assert 1 <= len(retried) <= 4
    heard = Counter((event["trial_id"], event["epoch"]) for event in lived["events"] if event["event"] == "epoch")
    assert set(heard.values()) == {1}, "what was trained again was not told again"
    for trial_id, log in trial_logs(lived["events"]).items():
        assert sorted(log.epochs) == list(range(1, lived["workspace"].load_record(trial_id).epochs_run + 1))


def test_records_and_probabilities_are_those_of_ordinary_trials(lived: dict[str, Any]) -> None:
    bank = PredictionBank(lived["workspace"])
    for record in lived["workspace"].load_records():
        assert (record.trainable, record.usable) == ("image", True)
        accuracy = (bank.get(record.trial_id, "val").argmax(1) == bank.targets("val")).mean()
        assert accuracy == pytest.approx(record.score("accuracy"), abs=0.03), "float16 may tip a tie"


def test_proxies_hold_no_torch(lived: dict[str, Any]) -> None:
    assert lived["seen"]["engines"]
    assert lived["seen"]["proxies_with_torch"] and not any(lived["seen"]["proxies_with_torch"])


def test_occupancy_and_the_reason_of_each_pool_are_kept_and_said(lived: dict[str, Any]) -> None:
    [facts] = [event for event in lived["events"] if event["event"] == "slots"]
    assert 0 < facts["occupancy"] <= 1 and facts["slot_epochs"] > 0
    assert all("packed" in pool["reason"] or "one after another" in pool["reason"] for pool in facts["pools"])
    assert "held by trials" in lived["said"]
