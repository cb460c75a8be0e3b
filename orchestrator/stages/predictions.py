"""What the stages predict with: the splits of a run, and a voice that says how long predicting will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.context import Context, Say

if TYPE_CHECKING:
    from trainables.data.dataset import Splits

EVERY_S = 10.0
"""Seconds between two lines of a countdown."""


def splits_of(context: Context) -> Splits:
    """Return the decoded splits, loaded once a process."""
    return context.splits()


class Countdown:
    """Says now and then how much of a long prediction is done and how long the rest will take."""

    def __init__(self, say: Say, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._what, self._total, self._clock = say, what, total, clock
        self._done, self._started = 0, clock()
        self._last = self._started

    def __call__(self, count: int) -> None:
        """Take in that so many more images are predicted."""
        self._done += count
        now = self._clock()
        if now - self._last < EVERY_S or self._done >= self._total:
            return
        self._last = now
        left = (now - self._started) * (self._total - self._done) / self._done
        self._say(f"{self._what}: {self._done:,} of {self._total:,} predictions, about {left:.0f} s left")
