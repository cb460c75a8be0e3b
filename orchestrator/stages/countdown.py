"""Voices while something takes long: how much is predicted and how long the rest will take, or that it still runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from orchestrator.context import Say

EVERY_S = 10.0
"""Seconds between two lines."""


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


@contextmanager
def still_running(say: Say, what: str, every_s: float = EVERY_S) -> Iterator[None]:
    """Say now and then how long the block has taken, where nobody knows how much of it is done."""
    over, started = threading.Event(), time.monotonic()

    def speak() -> None:
        while not over.wait(every_s):
            with suppress(OSError):  # nobody reads it any more
                say(f"{what}: {time.monotonic() - started:.0f} s so far")

    voice = threading.Thread(target=speak, name="still-running", daemon=True)
    voice.start()
    try:
        yield
    finally:
        over.set()
        voice.join()
