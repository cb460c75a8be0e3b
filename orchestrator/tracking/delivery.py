"""The background thread that carries the journal to its sink: in batches, again after failures, never in the caller's way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from orchestrator.tracking.journal import Event, Journal

log = logging.getLogger(__name__)
BATCH = 500
PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Sink(Protocol):
    """Who receives the events; receiving the same events twice must change nothing."""

    def open(self) -> bool:
        """Connect and find what is there; return False when nothing of this journal is, so that all is sent again."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Take events in order; raises when the sink does not answer."""


class Delivery:
    """Delivers a journal from its own thread until closed."""

    def __init__(self, journal: Journal, sink: Sink, *, name: str) -> None:
        self._journal, self._sink, self._name = journal, sink, name
        self._wake, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._open, self._failures = False, 0
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> int:
        """Deliver what is pending for at most `timeout` seconds, stop at the first failure; return how many events remain."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        self._abandoned.set()
        return self._journal.waiting

    def _run(self) -> None:
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            try:
                if not self._step() and closing:
                    return
            except Exception as error:
                self._failed(error)
                if closing:
                    return
            if not self._closing.is_set():
                self._wake.wait(self._pause())

    def _step(self) -> bool:
        """Deliver one batch; return whether there was any."""
        if not self._open:
            if not self._sink.open():
                self._journal.rewind()
            self._open = True
        events = self._journal.pending(BATCH)
        if events:
            self._sink.deliver(events)
            self._journal.mark(events[-1])
            if self._failures:
                log.info("%s answers again", self._name)
            self._failures = 0
        return bool(events)

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            log.warning("%s did not take the scores (%s); they wait in %s", self._name, _first_line(error), self._journal.path)
        self._open = False
        self._failures += 1

    def _pause(self) -> float:
        return min(PAUSE_S * 2.0**self._failures, LONGEST_PAUSE_S) if self._failures < 10 else LONGEST_PAUSE_S


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
