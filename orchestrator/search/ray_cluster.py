"""Ray's resources divided among trials, and its processes watched."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from dataclasses import dataclass

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.interrupt import send_to_main
from orchestrator.search.ray_daemons import dead_processes, own_node

TRIALS_PER_GPU = 4
POLL_S, GRACE_S = 1.0, 10.0
"""How often a local Ray's processes are looked at, and how long Tune may take to end once one of them is gone."""


@dataclass(frozen=True)
class Share:
    """How many trials run at once, and what each is given."""

    trials: int
    cpus: float
    gpus: float


def share_out(search: SearchSection, *, cpus: float, gpus: float, growing: bool = False) -> Share:
    """Divide a cluster among trials; raises UserError when it cannot hold one (Tune would wait for ever).

    `gpus_per_trial: -1` shares each GPU evenly among the trials that run at once: at most four where nobody said how many.
    Where nodes may still come (`growing`), what a trial is given does not depend on how many are there.
    """
    per_gpu = search.gpus_per_trial
    at_once = search.concurrency or max(1, int(cpus / search.cpus_per_trial))
    if per_gpu < 0 and growing:
        per_gpu = 1.0 / min(TRIALS_PER_GPU, search.concurrency or TRIALS_PER_GPU) if gpus else 0.0
    elif per_gpu < 0:
        at_once = at_once if search.concurrency or not gpus else min(at_once, int(gpus * TRIALS_PER_GPU))
        per_gpu = 0.0 if not gpus else 1.0 / math.ceil(at_once / gpus)
    if cpus < search.cpus_per_trial or gpus < per_gpu:
        raise UserError(
            f"search.cpus_per_trial, gpus_per_trial: a trial needs {search.cpus_per_trial:g} CPUs and {per_gpu:g} GPUs, "
            f"Ray has {cpus:g} and {gpus:g}; ask for less or add nodes"
        )
    return Share(at_once, search.cpus_per_trial, per_gpu)


def places(share: Share, *, cpus: float, gpus: float, most: int = 0) -> int:
    """Return how many trials of a share's size find room at once, `most` at most (0: no limit), and one at least.

    The one is what Tune waits with while no node is there, and what its autoscaler sees.
    """
    fit = int(cpus / share.cpus + 1e-9)
    fit = min(fit, int(gpus / share.gpus + 1e-9)) if share.gpus else fit
    return max(1, min(fit, most or fit))


class Watchdog:
    """Watches the processes of a local Ray, without asking Ray: a dead one would leave the driver hanging for minutes.

    First `lost` tells; if the driver has not ended after a grace, its main thread is interrupted, then the process.
    """

    def __init__(self) -> None:
        self.lost = ""
        self._over = threading.Event()
        self._watching = own_node() is not None
        self._thread = threading.Thread(target=self._watch, name="ray-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._watching:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Join the thread before Ray is shut down."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            if dead := dead_processes():
                self.lost = f"Ray's {', '.join(dead)} died"
                self._end()
                return

    def _end(self) -> None:
        if self._over.wait(GRACE_S):
            return
        send_to_main(signal.SIGINT)
        if not self._over.wait(GRACE_S):
            said = "everything is kept; the same command goes on (`orchestrate search` with --resume)"
            print(f"orchestrate: {self.lost}; {said}", file=sys.stderr, flush=True)
            os._exit(1)
