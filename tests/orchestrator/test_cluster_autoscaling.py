"""A search that joins a cluster without a single worker: Ray's own autoscaler brings nodes (processes here), and trials run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.store.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.flaky(reruns=1), pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
HEAD_ID = "f" * 51 + "00000"
NEWER = {
    "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_NODE_TYPE_NAME": "ray.head.default",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}  # fmt: skip
"""What `ray up` sets for the head: its newer autoscaler, which does nothing for a request that is too large as a whole."""
FAKE = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"

DRIVER = """
import json, sys
from orchestrator.config import Experiment
from orchestrator.search.ray_environment import prepare_environment
prepare_environment("cluster")
import ray
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker

if __name__ == "__main__":
    experiment = Experiment.model_validate(json.loads(sys.argv[1]), strict=False)
    ray.init(address=experiment.search.address, log_to_driver=False)
    before = ray.cluster_resources().get("CPU", 0)
    run_search(experiment, Workspace(experiment.run_path), NullTracker(), progress=Silent())
    from orchestrator.search.ray_nodes import can_grow
    found = {"before": before, "nodes": sum(bool(node["Resources"].get("CPU")) for node in ray.nodes()), "grows": can_grow()}
    print("FOUND" + json.dumps(found))
"""


@pytest.fixture(params=["newer", "older"])
def empty_cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """A head without CPUs whose autoscaler may start two workers of one CPU each; gives its address."""
    folder = Path(tempfile.mkdtemp(prefix="as", dir="/tmp"))  # a short path: Ray's sockets lie below it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = {
        "resources": {"CPU": 1, "object_store_memory": 100 * 2**20},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    }
    config = {
        "cluster_name": "fake", "max_workers": 2, "upscaling_speed": 10.0, "idle_timeout_minutes": 5,
        "provider": {
            "type": "external", "module": FAKE, "gcs_address": f"127.0.0.1:{port}", "head_node_id": HEAD_ID,
            "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}, "worker": worker,
        },
        "head_node_type": "ray.head.default", "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [],
        "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--object-store-memory={100 * 2**20}",
        f"--temp-dir={folder / 'ray'}", f"--autoscaling-config={folder / 'config.yaml'}",
    ]  # fmt: skip
    env = ENV | (NEWER if request.param == "newer" else {})
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_for(port, head, folder / "log")
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            try:
                head.wait(60)
            finally:
                subprocess.run(["pkill", "-9", "-f", str(folder)], check=False)
                shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert head.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)


def test_nodes_come_because_the_search_asks_for_them(tmp_path: Path, empty_cluster: str) -> None:
    space = {"name": "tiny", "constants": {"epochs": 2}, "dimensions": {"lr": {"float": [1e-3, 5e-2], "log": True}}}
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    values = {
        "name": "grown", "run_dir": str(tmp_path / "runs"), "data": {"source": "digits", "limit": 200},
        "train": {"model": "cnn_a", "width": 4, "device": "cpu"}, "tracking": {"uri": "none"},
        "search": {"trials": 4, "space": str(tmp_path / "space.yaml"), "scheduler": "none", "address": empty_cluster},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(values)], capture_output=True, text=True, cwd=ROOT, env=ENV,
        stdin=subprocess.DEVNULL, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND")[1].splitlines()[0])
    assert found == {"before": 0, "nodes": 2, "grows": True}
    assert "waiting for a node with 1 CPUs (0 s)" in done.stderr
    logs = trial_logs(read_events(Workspace(tmp_path / "runs" / "grown").ledger))
    assert [log.status for log in logs.values()] == ["finished"] * 4
