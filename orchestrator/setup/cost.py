"""What a search will cost, as arithmetic: epochs that the scheduler lets through, hours, and disk."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from orchestrator.config import Experiment

CHECKPOINTS = 2
"""Resumable states kept of each running trial."""
STATE_SIZE = 3
"""Of a state in units of the weights: the weights and Adam's two moments."""


@dataclass(frozen=True)
class Measured:
    """What was timed on this machine: seconds of one epoch, and megabytes of the largest weights seen."""

    baseline_seconds: float
    trial_seconds: float
    """Mean of a few random configurations of the space (of the baseline where there was no time for them)."""
    weights_mb: float
    draws: int


@dataclass(frozen=True)
class Cost:
    """Epochs that will be trained, and what follows from them where something was measured."""

    trials: int
    epochs_per_trial: int
    concurrency: int
    epochs: tuple[float, float, float]
    """Of all trials: as if every rung kept its exact share, as the scheduler is expected to, as if it stopped nobody."""
    other_epochs: int
    """Of the baseline, the refits and the boosting rounds."""
    measured: Measured | None = None
    disk_mb: float | None = None

    @property
    def seconds(self) -> tuple[float, float, float] | None:
        """Return wall-clock seconds of the whole way's training: low, likely, high."""
        if self.measured is None:
            return None
        each = self.measured.trial_seconds / self.concurrency
        low, likely, high = ((trained + self.other_epochs) * each for trained in self.epochs)
        return low, likely, high

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        names = ("low", "likely", "high")
        return {
            **dataclasses.asdict(self),
            "epochs": dict(zip(names, self.epochs, strict=True)),
            "seconds": dict(zip(names, self.seconds, strict=True)) if self.seconds else None,
        }


def estimate(experiment: Experiment, *, epochs: int, cpus: int, gpus: int = 0, measured: Measured | None = None) -> Cost:
    """Return the cost of an experiment whose trials take up to `epochs`, on a machine with so many CPUs and GPUs."""
    search, refit = experiment.search, experiment.ensemble.refit
    wanted = search.concurrency or default_concurrency(search.cpus_per_trial, search.gpus_per_trial, cpus, gpus)
    concurrency = min(wanted, search.trials)
    shares = survival(search.scheduler, epochs, search.grace_epochs, search.reduction_factor, search.trials)
    low, likely, high = (share * search.trials * epochs for share in shares)
    refits = 0 if refit.mode == "none" else refit.top * refit.members
    others = 1 + refits + experiment.ensemble.boost_rounds
    disk = None
    if measured is not None:
        kept = min(search.trials, search.keep_weights) + others
        states = CHECKPOINTS * STATE_SIZE * concurrency
        disk = min((kept + states) * measured.weights_mb, search.disk_cap_gb * 1000)
    return Cost(search.trials, epochs, concurrency, (low, likely, high), others * epochs, measured, disk)


def default_concurrency(cpus_per_trial: float, gpus_per_trial: float, cpus: int, gpus: int) -> int:
    """Return how many trials run at once: what the CPUs hold, or what whole shares of the GPUs hold if fewer."""
    by_cpu = max(1, math.floor(cpus / cpus_per_trial))
    return min(by_cpu, max(1, math.floor(gpus / gpus_per_trial))) if gpus_per_trial > 0 and gpus else by_cpu


def survival(scheduler: str, epochs: int, grace: int, factor: int, trials: int) -> tuple[float, float, float]:
    """Return the share of `trials * epochs` that is trained: low, likely, high (1: nobody is stopped).

    Low is synchronous halving, 1 / factor of the trials past each rung. Likely is the asynchronous rule, in which early
    arrivals have few to be held against: the m-th later one passes with probability ((m - 1) / factor + 1) / (m + 1), which is
    the chance of standing at or above the interpolated quantile of m exchangeable scores.
    """
    if scheduler in ("none", "pbt") or grace >= epochs:
        return 1.0, 1.0, 1.0
    if scheduler == "median":
        half = (grace + (epochs - grace) / 2) / epochs
        return half, (1 + half) / 2, 1.0
    rungs, rung = [], grace
    while rung < epochs:
        rungs.append(rung)
        rung *= factor
    low = _halved(rungs, epochs, [trials / factor**k for k in range(len(rungs) + 1)])
    alive = [float(trials)]
    for _ in rungs:
        alive.append(passing(alive[-1], factor))
    likely = _halved(rungs, epochs, alive)
    if scheduler == "hyperband":
        low, likely = (low + 1) / 2, (likely + 1) / 2
    return low, likely, 1.0


def passing(arrivals: float, factor: int) -> float:
    """Return how many of so many arrivals at a rung are expected to pass it."""
    whole = math.floor(arrivals)
    expected = sum(1.0 if m == 0 else ((m - 1) / factor + 1) / (m + 1) for m in range(whole))
    return expected + (arrivals - whole) * (((whole - 1) / factor + 1) / (whole + 1) if whole else 1.0)


def _halved(rungs: list[int], epochs: int, alive: list[float]) -> float:
    """Return trained epochs over `alive[0] * epochs`, where `alive[k]` trials leave the k-th stretch between rungs."""
    edges = [0, *rungs, epochs]
    trained = sum(count * (end - start) for count, start, end in zip(alive, edges, edges[1:], strict=False))
    return trained / (alive[0] * epochs)
