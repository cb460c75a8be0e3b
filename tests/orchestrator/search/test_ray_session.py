"""One real Ray serves all sessions of a block, begun ahead; it is made anew where it died, and ends with the block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config import SearchSection
from orchestrator.search import ray_session

ROOT = Path(__file__).parents[3]
SEVERAL_SESSIONS = """
import os, signal, threading, time
from orchestrator.config import SearchSection
from orchestrator.search.ray_daemons import _below
from orchestrator.search.ray_session import begin_ray, one_ray, ray_session

search = SearchSection(concurrency=2, cpus_per_trial=0.5)

def used():
    import ray
    node = ray._private.worker._global_node
    told = ray.get(ray.remote(num_cpus=0.1)(lambda: "answer").remote())
    return node.address, told, sorted(node.all_processes)

with one_ray():
    begin_ray(search)
    import ray
    with ray_session(search):
        first = used()
    time.sleep(1.5)  # its processes live on, though nobody waits for the thread that started them
    with ray_session(search):
        second = used()
    assert first == second and first[1:] == ("answer", ["gcs_server", "raylet"]), (first, second)
    logs = os.listdir(ray._private.worker._global_node.get_logs_dir_path())  # what was started, if only for a moment
    assert "gcs_server.out" in logs, logs
    assert not [log for log in logs if log.startswith(("monitor", "dashboard.", "log_monitor"))], logs
    assert ray._private.node.Node.start_monitor.__qualname__ == "Node.start_monitor"
    assert ray._private.utils.get_dashboard_dependency_error.__module__ == "ray._private.utils"
    node = ray._private.worker._global_node
    for name in ("raylet", "gcs_server"):
        status = f"/proc/{node.all_processes[name][0].process.pid}/status"
        if os.path.exists(status):
            blocked = int(open(status).read().partition("SigBlk:")[2].split()[0], 16)
            assert all(blocked >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGHUP)), (name, hex(blocked))

    os.kill(ray._private.worker._global_node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    time.sleep(1.0)
    with ray_session(search):
        third = used()
    assert third[0] != first[0] and third[1] == "answer"
assert not ray.is_initialized() and not [t for t in threading.enumerate() if t.name == "ray"]
with ray_session(search):
    assert used()[1] == "answer"
    below = list(_below(ray._private.worker._global_node))
assert not ray.is_initialized()
import psutil
assert len(below) >= 3 and not psutil.wait_procs([p for p in below if p.is_running() and p.status() != "zombie"], timeout=5)[1]
print("done", ray._private.worker._global_node)
"""


def test_sessions_of_a_block_share_one_ray() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL_SESSIONS], capture_output=True, text=True, cwd=ROOT, timeout=180, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["done", "None"], done.stdout  # before it Ray tells of the killed raylet


def test_what_keeps_it_from_coming_up_is_said_where_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise RuntimeError("no room for the object store")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray_session, "prepare_environment", lambda _: None)
    with ray_session.one_ray():
        ray_session.begin_ray(SearchSection())
        with pytest.raises(RuntimeError, match="no room for the object store"), ray_session.ray_session(SearchSection()):
            pass


def test_nothing_is_begun_for_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    begun: list[object] = []
    monkeypatch.setattr(ray, "init", lambda **kind: begun.append(kind))
    monkeypatch.setattr(ray_session, "prepare_environment", lambda _: None)
    with ray_session.one_ray():
        ray_session.begin_ray(SearchSection(address="auto"))
    assert not begun and ray_session._Life.own is None


def test_where_ray_was_imported_before_it_stays_as_it_was() -> None:
    script = """
import ray
from orchestrator.config import SearchSection
from orchestrator.search.ray_session import ray_session
with ray_session(SearchSection()):
    print(ray.get(ray.remote(num_cpus=0.1)(lambda: "answer").remote()))
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=env, timeout=120, check=False
    )  # fmt: skip
    assert done.stdout.strip() == "answer", done.stderr
