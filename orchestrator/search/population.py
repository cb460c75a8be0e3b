"""Population based training in rounds (Jaderberg et al. 2017): every few epochs the weak take over a strong one's state.

All living trials train `interval` epochs and wait; then each of the lowest quarter takes the weights and settings of one of
the best quarter that trains the same shape, with its per-slot numbers moved by 0.8 or 1.2. Rounds make it the same search on
one core and on a hundred, and replayable from the ledger.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from orchestrator.search.schedulers import Keep, Release, Verdict

MOVABLE = (
    "lr", "weight_decay", "momentum", "dropout", "dropout2d", "drop_path", "label_smoothing", "magnitude", "mixup", "cutmix",
    "clip_norm", "focal_gamma",
)  # fmt: skip
"""Per-slot numbers that may change while a trial trains: none changes a tensor's shape or the length of the schedule."""
QUANTILE, FACTORS = 0.25, (0.8, 1.2)


class Population(Keep):
    """The rounds of one search; `bounds` are the limits of the numbers that may move."""

    def __init__(self, *, interval: int, seed: int, bounds: Mapping[str, tuple[float, float]]) -> None:
        self._interval, self._seed, self._total, self._admitted = interval, seed, 0, 0
        self._bounds = {key: limits for key, limits in bounds.items() if key in MOVABLE}
        self._configs: dict[str, dict[str, Any]] = {}
        self._score: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._round = 0

    def expect(self, total: int) -> None:
        """Set the size of the population: no round ends before all have come."""
        self._total = total

    def admit(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Take a trial into the population."""
        self._configs[trial_id] = dict(config)
        self._admitted += 1

    def waits(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the ends of all rounds but the last."""
        return tuple(range(self._interval, int(config.get("epochs", 1)), self._interval))

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict:
        """Wait at the end of each round but the last."""
        self._score[trial_id] = score
        if epoch not in self.waits(self._configs[trial_id]):
            return Verdict.GO_ON
        self._waiting.add(trial_id)
        return Verdict.WAIT

    def leave(self, trial_id: str) -> None:
        """Go on without a trial that ended."""
        self._configs.pop(trial_id, None)
        self._waiting.discard(trial_id)

    def release(self) -> list[Release]:
        """Return the whole population once all of it waits, in order of admission."""
        if not self._waiting or self._admitted < self._total or len(self._waiting) < len(self._configs):
            return []
        self._round += 1
        rng = random.Random(f"{self._seed}/{self._round}")
        order = sorted(self._configs, key=lambda t: (-self._score[t], t))
        count = max(1, int(len(order) * QUANTILE)) if len(order) > 1 else 0
        best, worst = order[:count], set(order[len(order) - count :])
        released = [self._go_on(t, best if t in worst else [], rng) for t in self._configs]
        for release in released:
            self._configs[release.trial_id] = dict(release.config or self._configs[release.trial_id])
        self._waiting.clear()
        return released

    def _go_on(self, trial_id: str, best: list[str], rng: random.Random) -> Release:
        own = self._configs[trial_id]
        sources = [t for t in best if t != trial_id and _shape(self._configs[t]) == _shape(own)]
        if not sources:
            return Release(trial_id)
        source = rng.choice(sources)
        taken = {**self._configs[source], "seed": own.get("seed", 0)}
        for key, (low, high) in self._bounds.items():
            if key in taken:
                taken[key] = min(high, max(low, float(taken[key]) * rng.choice(FACTORS)))
        return Release(trial_id, source, taken)


def _shape(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two trials must share for one to take over the other's state."""
    from trainables.config import TrainConfig, fusion_key

    checked = TrainConfig.from_dict(config)
    return (*fusion_key(checked), checked.average, checked.epochs)
