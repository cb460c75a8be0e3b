"""The processes of a Ray of our own: only those that one node needs, deaf to signals that are meant for us, ended at once.

Ray has no setting for any of it, so that private names of Ray are used and replaced here, and nowhere else.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOT_NEEDED = ("start_monitor", "start_api_server", "start_log_monitor")
"""What starts the processes for Ray's autoscaler, its dashboard and its printed logs."""
OURS = {getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)}


@contextmanager
def only_needed() -> Iterator[None]:
    """Let `ray.init`, inside the block, start only what a Ray of one node has a use for.

    The others start one after another; its agent is started as where Ray's dashboard is not installed. Together they take 3
    CPU seconds, and half of the time until Ray is up.
    """
    from ray._private import node, utils

    missing = ImportError("not wanted")
    instead: list[tuple[Any, str, Any]] = [
        (utils, "get_dashboard_dependency_error", lambda: missing),
        *((node.Node, name, lambda *_, **__: None) for name in NOT_NEEDED),
    ]
    own = [(owner, name, getattr(owner, name)) for owner, name, _ in instead]
    for owner, name, value in instead:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in own:
            setattr(owner, name, value)


def leave_signals_to_us() -> None:
    """Block SIGTERM and SIGHUP in this thread and in the processes that it starts, as Ray itself does with Ctrl-C.

    `timeout`, Slurm and a terminal that closes tell the whole process group to end: we end the search in good order, and need
    Ray alive for that. (A worker in which something is started by spawn hears them again: Python's resource tracker unblocks
    them. Its trial is then lost a moment before it would have been stopped, and goes on from its checkpoint either way.)
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS)


def own_node() -> Any:
    """Return Ray's object of the processes that it has started for this one, or None: it is not up, or a cluster's."""
    import ray

    node = getattr(ray._private.worker, "_global_node", None)
    return node if node is not None and node.all_processes else None


def dead_processes() -> list[str]:
    """Return the names of those of the own node's processes that have ended."""
    node = own_node()
    return [str(name) for name, _ in node.dead_processes()] if node is not None else []


def end_at_once() -> None:
    """Let Ray's shutdown kill the own node's processes and theirs: they do not hear the SIGTERM that it would try first."""
    node = own_node()
    if node is None:
        return
    kill = node.kill_all_processes

    def kill_all(*args: Any, **kind: Any) -> None:
        below: list[Any] = []
        with suppress(Exception):
            below += _below(node)
        kill(*args, **{**kind, "allow_graceful": False})
        for process in below:
            with suppress(Exception):  # most have ended with the one that started them
                process.kill()

    node.kill_all_processes = kill_all


def _below(node: Any) -> Iterator[Any]:
    """Yield all processes that those of a node have started: workers and agents."""
    psutil = importlib.import_module("psutil")  # Ray brings it along
    for started in node.all_processes.values():
        for info in started:
            with suppress(psutil.Error):
                yield from psutil.Process(info.process.pid).children(recursive=True)
