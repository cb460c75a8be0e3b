"""When a training state goes to the disk: seldom and beside the training, but at once where somebody is about to read it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trainables.contract import Outcome

EVERY = 30
"""How many times what the last state took (copy and write) must have passed before the next: 1/30 of the time at most."""

log = logging.getLogger(__name__)


@dataclass
class Pace:
    """When the next state is due, in seconds of whatever clock: the first one at once.

    Trials that train at once in a process take its time in turn, so that each of `at_once` waits as many times as long.
    """

    at_once: int = 1
    began: float = -math.inf
    """When the last state was begun (or read, where a training goes on)."""
    took: float = 0.0
    """How long that took, from its copy to the end of its write."""

    def due(self, now: float) -> bool:
        """Return whether a state may be saved now; a crash costs no more than the training since the last such moment."""
        return now - self.began >= EVERY * self.at_once * self.took


class Saving:
    """The states of one training in a folder: `offer` one after each epoch inside a `with` block, which waits for the last.

    A state is copied in the training's own thread (`state()` returns it in memory of its own) and written by another one, one
    at a time. After an epoch in `waits`, whatever the pace, it is on the disk when `offer` returns. What a write fails of is
    raised by the next `offer`, and only told where there is none.
    """

    def __init__(
        self, folder: Path, *, waits: Collection[int] = (), at_once: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._waits, self._clock = folder, frozenset(waits), clock
        self._pace = Pace(at_once)
        self._writer: threading.Thread | None = None
        self._fault: Exception | None = None

    def load(self) -> dict[str, Any] | None:
        """Return the newest valid state, or None; the next one is due as though reading it had been writing it."""
        from trainables.checkpoint import load_newest

        began = self._clock()
        found = load_newest(self._folder)
        if found is None:
            return None
        self._pace.began, self._pace.took = began, self._clock() - began
        return found[1]

    def offer(self, outcome: Outcome, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save the state after an epoch where it is needed or due, after the last one only where it is needed."""
        needed = outcome.epoch in self._waits
        if needed:
            self._join()
        if needed or not outcome.done:
            self._raise_fault()
        began = self._clock()
        if needed:
            self._write(outcome.epoch, state(), began)
            self._raise_fault()
        elif not outcome.done and not self._writing and self._pace.due(began):
            self._writer = threading.Thread(target=self._write, args=(outcome.epoch, state(), began), name="checkpoint")
            self._writer.start()

    def _write(self, epoch: int, state: Mapping[str, Any], began: float) -> None:
        from trainables.checkpoint import save

        try:
            save(self._folder, state, epoch=epoch)
        except Exception as error:
            self._fault = error
        self._pace.began, self._pace.took = began, self._clock() - began

    @property
    def _writing(self) -> bool:
        return self._writer is not None and self._writer.is_alive()

    def _join(self) -> None:
        if self._writer is not None:
            self._writer.join()

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for the write under way; a training that has ended does not fail for it, since nobody goes on from there."""
        self._join()
        if self._fault is not None:
            log.warning("a checkpoint in %s was not written: %s", self._folder, self._fault)
