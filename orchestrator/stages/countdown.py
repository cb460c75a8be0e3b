"""A voice that says how much of a long prediction is done and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.context import Say

EVERY_S = 10.0
"""Seconds between two lines of a countdown."""


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
