"""Ray itself: started or joined, divided among trials, checked on every node, watched, and shut down without a crash."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.preflight import check_node, versions

OBJECT_STORE = 128 * 2**20
"""Bytes of a local Ray's object store: trials send one line an epoch, images travel through the node's cache."""
TRIALS_PER_GPU = 4
POLL_S, GRACE_S = 1.0, 10.0
"""How often a local Ray's processes are looked at, and how long Tune may take to end once one of them is gone."""


@dataclass(frozen=True)
class Share:
    """How many trials run at once, and what each is given."""

    trials: int
    cpus: float
    gpus: float


def share_out(search: SearchSection, *, cpus: float, gpus: float) -> Share:
    """Divide a cluster among trials; raises UserError when it cannot hold one (Tune would wait for ever).

    `gpus_per_trial: -1` shares each GPU evenly among the trials that run at once: at most four where nobody said how many.
    """
    per_gpu = search.gpus_per_trial
    at_once = search.concurrency or max(1, int(cpus / search.cpus_per_trial))
    if per_gpu < 0:
        at_once = at_once if search.concurrency or not gpus else min(at_once, int(gpus * TRIALS_PER_GPU))
        per_gpu = 0.0 if not gpus else 1.0 / math.ceil(at_once / gpus)
    if cpus < search.cpus_per_trial or gpus < per_gpu:
        raise UserError(
            f"search.cpus_per_trial, gpus_per_trial: a trial needs {search.cpus_per_trial:g} CPUs and {per_gpu:g} GPUs, "
            f"Ray has {cpus:g} and {gpus:g}; ask for less or add nodes"
        )
    return Share(at_once, search.cpus_per_trial, per_gpu)


@contextmanager
def ray_session(search: SearchSection) -> Iterator[None]:
    """Start a Ray of our own, or join the cluster at `search.address`; a Ray that this process already has is used and left."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if search.address == "local":
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        wanted = math.ceil((1 if search.backend == "slots" else max(search.concurrency, 1)) * search.cpus_per_trial)
        ray.init(
            address="local", num_cpus=max(cpus, wanted), include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet
        )
    else:
        _join(search.address, quiet)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        shut_down()


def _join(address: str, quiet: dict[str, Any]) -> None:
    if address.startswith("ray://"):
        raise UserError(
            f"search.address: got {address!r}; run the search on a node of the cluster with `--address auto` instead"
        )
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"search.address: no Ray cluster at {address!r} ({str(error).splitlines()[0]}); start one with `ray start --head` "
            "or `ray up cluster.yaml`, and set RAY_AUTH_MODE and the token as on its nodes"
        ) from error


def shut_down() -> None:
    """Shut Ray down with the garbage collector at rest: a Ray reference freed in that moment would end the whole process."""
    gc.collect()
    gc.disable()
    try:
        with suppress(Exception):
            ray.shutdown()
    finally:
        gc.enable()


def check_cluster(data: dict[str, Any], root: str, tracking: str) -> None:
    """Look from every node at the data, the run folder and the tracking server; raises UserError naming all faults."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(check_node)
    pending = {}
    for node in (n for n in ray.nodes() if n["Alive"]):
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = look.options(scheduling_strategy=strategy).remote(data, root, tracking, versions())
        pending[task] = node["NodeManagerHostname"] or node["NodeManagerAddress"]
    problems = []
    for task, name in pending.items():
        try:
            problems += [f"node {name}: {fault}" for fault in ray.get(task, timeout=120)]
        except Exception as error:
            problems.append(f"node {name}: the check did not run ({str(error).strip().splitlines()[-1]})")
    if problems:
        raise UserError("the cluster is not ready:\n" + "\n".join(f"  {problem}" for problem in problems))


class Watchdog:
    """Watches the processes of a local Ray, without asking Ray: a dead one would leave the driver hanging for minutes.

    First `lost` tells; if the driver has not ended after a grace, its main thread is interrupted, then the process.
    """

    def __init__(self) -> None:
        self.lost = ""
        self._over = threading.Event()
        self._node = getattr(ray._private.worker, "_global_node", None)
        self._thread = threading.Thread(target=self._watch, name="ray-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._node is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Join the thread before Ray is shut down."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            dead = [name for name, _ in self._node.dead_processes()] if self._node else []
            if dead:
                self.lost = f"Ray's {', '.join(dead)} died"
                self._end()
                return

    def _end(self) -> None:
        if self._over.wait(GRACE_S):
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not self._over.wait(GRACE_S):
            print(f"orchestrate: {self.lost}; everything is kept, go on with --resume", file=sys.stderr, flush=True)
            os._exit(1)
