"""The same search on a Ray cluster of two nodes (one machine), found by its address, with the start-up check of each node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.store.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.flaky(reruns=1), pytest.mark.timeout(1500)]

DRIVER = """
import json, os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.search.ray_environment import prepare_environment
prepare_environment("cluster")
from ray.cluster_utils import Cluster
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker

if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    cluster = Cluster()
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False) for _ in range(2)]
    cluster.wait_for_nodes()
    values["search"]["address"] = cluster.address
    said = {}
    for name, uri in (("dead", "http://127.0.0.1:9"), ("none", "none")):
        values["tracking"]["uri"] = uri
        experiment = Experiment.model_validate(values, strict=False)
        try:
            run_search(experiment, Workspace(experiment.run_path), NullTracker(), resume=True, progress=Silent())
        except UserError as error:
            said[name] = str(error)
    print("SAID" + json.dumps(said))
    cluster.shutdown()
"""


def test_a_search_joins_a_cluster_by_address_and_a_server_that_does_not_answer_is_named_by_each_node(tmp_path: Path) -> None:
    space = {"name": "tiny", "constants": {"epochs": 2}, "dimensions": {"lr": {"float": [1e-3, 5e-2], "log": True}}}
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    values = {
        "name": "nodes", "run_dir": str(tmp_path / "runs"), "data": {"source": "digits", "limit": 200},
        "train": {"model": "cnn_a", "width": 4, "device": "cpu"}, "tracking": {},
        "search": {"trials": 4, "space": str(tmp_path / "space.yaml"), "scheduler": "none"},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(values)], capture_output=True, text=True, cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.split("SAID")[1].splitlines()[0])
    assert list(said) == ["dead"]
    assert said["dead"].count("tracking.uri: http://127.0.0.1:9 does not answer") == 2, "once for each node"
    workspace = Workspace(tmp_path / "runs" / "nodes")
    logs = trial_logs(read_events(workspace.ledger))
    assert [log.status for log in logs.values()] == ["finished"] * 4
    assert len({r.trial_id for r in workspace.load_records() if r.usable}) == 4
