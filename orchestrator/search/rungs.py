"""The rungs of successive halving: at each milestone a trial is held against those that reached it before."""

from __future__ import annotations

import math
from collections.abc import Iterable


def milestones(grace: int, reduction: int, top: int) -> list[int]:
    """Return the epochs at which trials of at most `top` epochs are judged: grace * reduction ** k, below `top`.

    >>> milestones(1, 3, 10)
    [1, 3, 9]
    """
    found, epoch = [], grace
    while epoch < top:
        found.append(epoch)
        epoch *= reduction
    return found


def quantile(values: Iterable[float], q: float) -> float:
    """Return the q-quantile with linear interpolation, as numpy's default gives it."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Bracket:
    """One ladder of rungs; `skip` leaves out the lowest ones (Hyperband's more patient brackets)."""

    def __init__(self, grace: int, reduction: int, skip: int = 0) -> None:
        self.size = 0
        self._first, self._reduction = grace * reduction**skip, reduction
        self._rungs: dict[int, dict[str, float]] = {}

    def passes(self, trial_id: str, epoch: int, score: float, *, top: int) -> bool:
        """Enter the trial at the highest milestone it has reached and is not in yet; False where it is behind there.

        The first to arrive always passes, as does a trial at its last epoch, `top`; one that comes back from a checkpoint
        past a milestone is entered late.
        """
        reached = milestones(self._first, self._reduction, min(epoch + 1, top))
        if not reached or trial_id in self._rungs.get(reached[-1], {}):
            return True
        rung = self._rungs.setdefault(reached[-1], {})
        ahead = bool(not rung or score >= quantile(rung.values(), 1 - 1 / self._reduction))
        rung[trial_id] = score
        return ahead
