"""What a node is checked for, how a cluster is divided, and what a signal does."""

from __future__ import annotations

import ctypes
import gc
import http.server
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.interrupt import ASKED, TIME_BUDGET, Ending, Signalled, handlers_kept, raise_now, rearm, signals
from orchestrator.search.preflight import check_node, driver_token, versions
from orchestrator.search.ray_environment import prepare_environment

DIGITS = {"source": "digits", "root": ""}


def test_a_sound_node_has_no_faults_and_leaves_nothing(tmp_path: Path) -> None:
    with driver_token(tmp_path):
        assert check_node(DIGITS, str(tmp_path), "none", versions()) == []
    assert list(tmp_path.iterdir()) == []


def test_every_fault_of_a_node_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    data = {"source": f"folder:{folder}", "root": ""}
    faults = check_node(data, str(tmp_path), "http://127.0.0.1:9", {**versions(), "ray": "1.0"})
    assert len(faults) == 4
    assert faults[0].startswith("ray is ") and faults[0].endswith("the driver has 1.0")
    assert faults[1].startswith(f"data: {folder} is not there")
    assert faults[2].startswith(f"run_dir: {tmp_path} is not the driver's folder")
    assert faults[3].startswith("tracking.uri: http://127.0.0.1:9 does not answer")


def test_a_torchvision_root_is_looked_for(tmp_path: Path) -> None:
    with driver_token(tmp_path):
        assert check_node({"source": "cifar10", "root": str(tmp_path)}, str(tmp_path), "", {}) == []
        assert len(check_node({"source": "cifar10", "root": str(tmp_path / "x")}, str(tmp_path), "", {})) == 1


def test_a_server_that_answers_anything_is_there(tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with driver_token(tmp_path):
        assert check_node(DIGITS, str(tmp_path), f"http://127.0.0.1:{server.server_port}", {}) == []
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("search", "cpus", "gpus", "expected"),
    [
        ({}, 8, 0, (8, 1.0, 0.0)),
        ({"cpus_per_trial": 3.0}, 8, 0, (2, 3.0, 0.0)),
        ({"concurrency": 3}, 8, 1, (3, 1.0, 1 / 3)),
        ({}, 16, 1, (4, 1.0, 0.25)),
        ({}, 2, 4, (2, 1.0, 1.0)),
        ({"concurrency": 3}, 8, 2, (3, 1.0, 0.5)),
        ({"gpus_per_trial": 0.0}, 8, 1, (8, 1.0, 0.0)),
    ],
)
def test_a_cluster_is_divided_among_trials(search: dict[str, Any], cpus: float, gpus: float, expected: Any) -> None:
    cluster = pytest.importorskip("orchestrator.search.ray_cluster")
    share = cluster.share_out(SearchSection(**search), cpus=cpus, gpus=gpus)
    assert (share.trials, share.cpus, share.gpus) == expected


def test_where_nodes_may_come_a_trials_share_does_not_depend_on_how_many_are_there() -> None:
    cluster = pytest.importorskip("orchestrator.search.ray_cluster")
    for search, gpus in (({}, 0.25), ({"concurrency": 2}, 0.5), ({"concurrency": 8}, 0.25), ({"gpus_per_trial": 1.0}, 1.0)):
        for nodes in (1, 2, 8):
            share = cluster.share_out(SearchSection(**search), cpus=8 * nodes, gpus=nodes, growing=True)
            assert (share.cpus, share.gpus) == (1.0, gpus)
    assert cluster.share_out(SearchSection(), cpus=8, gpus=0, growing=True).gpus == 0


@pytest.mark.parametrize(
    ("cpus", "gpus", "most", "expected"),
    [(8, 1, 0, 4), (16, 2, 0, 8), (16, 2, 3, 3), (2, 4, 0, 2), (0, 0, 0, 1), (0, 0, 5, 1), (8, 0, 0, 1)],
)
def test_places_follow_the_nodes_and_one_always_waits(cpus: float, gpus: float, most: int, expected: int) -> None:
    cluster = pytest.importorskip("orchestrator.search.ray_cluster")
    assert cluster.places(cluster.Share(99, 1.0, 0.25), cpus=cpus, gpus=gpus, most=most) == expected


def test_a_trial_that_no_cluster_could_hold_is_refused_instead_of_waited_for() -> None:
    cluster = pytest.importorskip("orchestrator.search.ray_cluster")
    with pytest.raises(UserError, match="a trial needs 4 CPUs and 0 GPUs, .*Ray has 2 and 0"):
        cluster.share_out(SearchSection(cpus_per_trial=4.0), cpus=2, gpus=0)
    with pytest.raises(UserError, match="1 GPUs"):
        cluster.share_out(SearchSection(gpus_per_trial=1.0), cpus=2, gpus=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_the_second_ends_and_old_handlers_return(number: signal.Signals) -> None:
    old = signal.SIG_DFL if number == signal.SIGHUP else signal.SIG_IGN
    before, seen = signal.signal(number, old), []
    try:
        with pytest.raises(Signalled) as raised, signals(seen.append):
            os.kill(os.getpid(), number)
            assert seen == [number]
            os.kill(os.getpid(), number)
        assert raised.value.exit_code == 128 + number and not isinstance(raised.value, Exception)
        assert signal.getsignal(number) is old
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored() -> None:
    before, seen = signal.signal(signal.SIGHUP, signal.SIG_IGN), []
    try:
        with signals(seen.append):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert seen == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_local_search_ends_at_the_first_signal_and_off_the_main_thread_nothing_is_changed() -> None:
    with pytest.raises(Signalled, match="interrupted by SIGTERM"), signals(raise_now):
        os.kill(os.getpid(), signal.SIGTERM)
    before, inside = signal.getsignal(signal.SIGTERM), []

    def elsewhere() -> None:
        with signals(raise_now):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside == [before]


class Knot:
    """Ends in a garbage collection, where what is raised is forgotten."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def knotted() -> None:
    Knot()
    gc.collect()


def finalised() -> None:
    knot = Knot()
    knot.itself = None  # type: ignore[assignment]


def called_back() -> None:
    kept = set[int]()
    reference = weakref.ref(kept, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del kept
    assert reference() is None


@pytest.mark.parametrize("where", [knotted, finalised, called_back])
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_signal_whose_exception_is_forgotten_comes_again(where: Callable[[], None], asked_before: bool) -> None:
    hook, seen = sys.unraisablehook, list[int]()
    expected = pytest.raises(Signalled, match="SIGINT" if asked_before else "SIGTERM")
    with expected, signals(seen.append if asked_before else raise_now):
        if asked_before:
            os.kill(os.getpid(), signal.SIGINT)
            assert seen == [signal.SIGINT]
        where()
        wait_for_it()
    assert sys.unraisablehook is hook


def wait_for_it() -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_handlers_that_somebody_took_over_are_put_in_place_again() -> None:
    """A handler set beside Python, as Ray's library does, is what the system calls; Python still names its own."""
    heard: list[int] = []
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    with signals(heard.append):
        libc.signal(signal.SIGTERM, 1)  # SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == []
        thread = threading.Thread(target=rearm)  # Ray comes up in another one
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]


def test_handlers_that_ray_sets_as_it_joins_a_cluster_are_put_back() -> None:
    heard: list[int] = []
    with signals(heard.append):
        with handlers_kept():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]


def test_an_ending_has_a_reason() -> None:
    assert Ending().reason() == ""
    assert Ending(time_budget_s=1e-9).reason() == TIME_BUDGET
    assert Ending(time_budget_s=1e9, stop=lambda: True).reason() == ASKED


def test_a_ray_of_our_own_gets_a_token_that_no_file_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "1"})
    prepare_environment("local")
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1", "what the user says stays"
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    prepare_environment("auto")
    assert "RAY_AUTH_TOKEN" not in os.environ and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert list(tmp_path.iterdir()) == []
