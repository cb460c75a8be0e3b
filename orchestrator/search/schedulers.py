"""Which trials go on, stop or wait: pure rules fed one epoch at a time, the same on every backend and again on a replay.

A rule sees only what the ledger holds, in the ledger's order, so a resumed search decides exactly as the first one did.
Scores are always "larger is better" here; whoever minimises hands in the negative.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from orchestrator.search.rungs import Bracket, milestones


class Verdict(Enum):
    """What becomes of a trial after an epoch."""

    GO_ON = "go on"
    STOP = "stop"
    WAIT = "wait"
    """End here for now; the scheduler hands it out again with `release`."""


@dataclass(frozen=True)
class Release:
    """A waiting trial that goes on: with its own state, or (population training) with that of `source` and a new config."""

    trial_id: str
    source: str = ""
    config: Mapping[str, Any] | None = None


class Scheduler(Protocol):
    """A rule; every trial is admitted once, judged once an epoch, and leaves once."""

    def admit(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Take a new trial in."""

    def waits(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the epochs after which `judge` may let a trial of this config wait, in order; it never does after others."""

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict:
        """Decide after an epoch (1-based)."""

    def leave(self, trial_id: str) -> None:
        """Hear that a trial ended, however it did."""

    def expect(self, total: int) -> None:
        """Hear how many trials the search will have in all."""

    def release(self) -> list[Release]:
        """Return the waiting trials that go on now (none while others are still on their way)."""


class Keep:
    """No scheduler: every trial runs to its end."""

    def admit(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def waits(self, config: Mapping[str, Any]) -> tuple[int, ...]:  # noqa: ARG002
        """Return none: who is only ever stopped never goes on from where it stood."""
        return ()

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict:  # noqa: ARG002
        """Go on."""
        return Verdict.GO_ON

    def leave(self, trial_id: str) -> None:
        """Do nothing."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def release(self) -> list[Release]:
        """Return none."""
        return []


class SuccessiveHalving(Keep):
    """ASHA (Li et al. 2020), or asynchronous Hyperband: several brackets, of which later ones give trials more time.

    A trial's score at a milestone is its best so far (the best kept epoch is what counts in the end). It stops where that
    is below the (1 - 1/reduction) quantile of those that reached the milestone before it: Ray's stopping variant.
    """

    def __init__(self, *, grace: int, reduction: int, hyperband: bool = False) -> None:
        self._grace, self._reduction, self._hyperband = grace, reduction, hyperband
        self._brackets: dict[int, Bracket] = {}
        self._of: dict[str, Bracket] = {}
        self._best: dict[str, float] = {}
        self._top: dict[str, int] = {}

    def admit(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Place a trial: all in one bracket, or in turn so that each bracket gets its Hyperband share of the trials."""
        top = self._top[trial_id] = int(config.get("epochs", 1))
        if not self._brackets:
            count = len(milestones(self._grace, self._reduction, top)) + 1 if self._hyperband else 1
            self._brackets = {skip: Bracket(self._grace, self._reduction, skip) for skip in range(count)}
        self._of[trial_id] = self._brackets[self._turn()]
        self._of[trial_id].size += 1

    def _turn(self) -> int:
        """Return the bracket furthest below its share; Hyperband starts 1/reduction as many trials a bracket up."""
        return min(self._brackets, key=lambda skip: ((self._brackets[skip].size + 1) * self._reduction**skip, skip))

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict:
        """Stop a trial that is behind at a milestone."""
        best = self._best[trial_id] = max(score, self._best.get(trial_id, score))
        passes = self._of[trial_id].passes(trial_id, epoch, best, top=self._top[trial_id])
        return Verdict.GO_ON if passes else Verdict.STOP


class MedianStopping(Keep):
    """The median rule (Golovin et al. 2017): stop when the best so far is below the median of the others' running means.

    Each other trial counts with the mean of its scores up to the same epoch; fewer than three of them decide nothing.
    """

    LEAST = 3

    def __init__(self, *, grace: int) -> None:
        self._grace = grace
        self._scores: dict[str, list[float]] = {}

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict:
        """Stop a trial that is below the median."""
        own = self._scores.setdefault(trial_id, [])
        own.append(score)
        if epoch <= self._grace:
            return Verdict.GO_ON
        others = [s[: len(own)] for other, s in self._scores.items() if other != trial_id and len(s) >= len(own)]
        if len(others) < self.LEAST:
            return Verdict.GO_ON
        median = statistics.median(statistics.fmean(scores) for scores in others)
        return Verdict.STOP if max(own) < median else Verdict.GO_ON


SCHEDULERS = ("asha", "hyperband", "median", "pbt", "none")


def make_scheduler(
    name: str, *, grace: int, reduction: int, seed: int, bounds: Mapping[str, tuple[float, float]] | None = None
) -> Scheduler:
    """Return the rule of that name; `bounds` are the numbers population training may move, with their limits."""
    from orchestrator.search.population import Population

    match name:
        case "asha" | "hyperband":
            return SuccessiveHalving(grace=grace, reduction=reduction, hyperband=name == "hyperband")
        case "median":
            return MedianStopping(grace=grace)
        case "pbt":
            return Population(interval=grace, seed=seed, bounds=bounds or {})
        case "none":
            return Keep()
    raise ValueError(f"search.scheduler: got {name!r}, allowed: {', '.join(SCHEDULERS)}")
