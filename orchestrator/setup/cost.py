"""What a search will cost, as arithmetic: epochs that the scheduler lets through, hours, and disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from orchestrator.config import Experiment


@dataclass(frozen=True)
class Cost:
    """Epochs trained, and wall-clock seconds as (low, likely, high); seconds are None where nothing was measured."""

    trials: int
    epochs_per_trial: int
    concurrency: int
    epochs: tuple[float, float, float]
    """Of all trials: as if every rung kept its exact share, as the scheduler is expected to, as if it stopped nobody."""
    other_epochs: int
    """Of the baseline, the refits and the boosting rounds."""
    seconds_per_epoch: float | None = None
    weights_mb: float | None = None
    """Of one model's weights."""
    disk_mb: float | None = None

    @property
    def seconds(self) -> tuple[float, float, float] | None:
        """Return wall-clock seconds of the whole way's training, low, likely and high."""
        if self.seconds_per_epoch is None:
            return None
        low, likely, high = ((e + self.other_epochs) * self.seconds_per_epoch / self.concurrency for e in self.epochs)
        return low, likely, high

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        names = ("low", "likely", "high")
        return {
            "trials": self.trials,
            "epochs_per_trial": self.epochs_per_trial,
            "concurrency": self.concurrency,
            "search_epochs": dict(zip(names, self.epochs, strict=True)),
            "other_epochs": self.other_epochs,
            "seconds_per_epoch": self.seconds_per_epoch,
            "seconds": dict(zip(names, self.seconds, strict=True)) if self.seconds else None,
            "weights_mb": self.weights_mb,
            "disk_mb": self.disk_mb,
        }


def estimate(
    experiment: Experiment, *, epochs: int, cpus: int, gpus: int = 0, seconds_per_epoch: float | None = None,
    weights_mb: float | None = None,
) -> Cost:  # fmt: skip
    """Return the cost of an experiment whose trials take up to `epochs`, on a machine with so many CPUs and GPUs."""
    search, refit = experiment.search, experiment.ensemble.refit
    concurrency = search.concurrency or default_concurrency(search.cpus_per_trial, search.gpus_per_trial, cpus, gpus)
    concurrency = max(1, min(concurrency, search.trials))
    shares = survival(search.scheduler, epochs, search.grace_epochs, search.reduction_factor, search.trials)
    low, likely, high = (share * search.trials * epochs for share in shares)
    refits = 0 if refit.mode == "none" else refit.top * refit.members
    others = 1 + refits + experiment.ensemble.boost_rounds
    disk = None
    if weights_mb is not None:
        kept = weights_mb * (min(search.trials, search.keep_weights) + others)
        disk = min(kept + 2 * 3 * weights_mb * concurrency, search.disk_cap_gb * 1000)
    return Cost(
        search.trials, epochs, concurrency, (low, likely, high), others * epochs, seconds_per_epoch, weights_mb, disk
    )  # fmt: skip


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
