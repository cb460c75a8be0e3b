"""The delivery thread: everything once in order, again after failures, and a close that does not hang."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.tracking import delivery
from orchestrator.tracking.delivery import Delivery
from orchestrator.tracking.journal import Event, Journal


class Recorder:
    """A sink that keeps what it gets and fails when told to."""

    def __init__(self, *, failures: int = 0, known: bool = True) -> None:
        self.got: list[int] = []
        self.failures, self.known = failures, known
        self.failed, self.worked = threading.Event(), threading.Event()

    def open(self) -> bool:
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise ConnectionError("refused")
        self.worked.set()
        return self.known

    def deliver(self, events: Sequence[Event]) -> None:
        self.got += [event.data["i"] for event in events if event.kind == "e"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE_S", 0.01)


def told(path: Path, count: int) -> Journal:
    journal = Journal(path)
    for i in range(count):
        journal.append("e", {"i": i})
    return journal


def test_everything_is_delivered_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BATCH", 7)
    journal, sink = told(tmp_path / "t.jsonl", 20), Recorder()
    sent = Delivery(journal, sink, name="sink")
    for i in range(20, 40):
        journal.append("e", {"i": i})
    assert sent.close(60) == 0
    assert sink.got == list(range(40))


def test_a_sink_that_fails_at_first_gets_everything_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal, sink = told(tmp_path / "t.jsonl", 5), Recorder(failures=3)
    sent = Delivery(journal, sink, name="sink")
    assert sink.worked.wait(60)
    assert sent.close(60) == 0
    assert sink.got == list(range(5))
    assert sum("did not take" in record.message for record in caplog.records) == 1


def test_close_leaves_a_dead_sink_at_once_and_counts_what_remains(tmp_path: Path) -> None:
    journal, sink = told(tmp_path / "t.jsonl", 5), Recorder(failures=1000)
    sent = Delivery(journal, sink, name="sink")
    assert sink.failed.wait(60)
    assert sent.close(60) == 6
    assert sink.got == []


def test_close_does_not_wait_longer_than_told_for_a_sink_that_hangs(tmp_path: Path) -> None:
    release = threading.Event()

    class Hanging(Recorder):
        def deliver(self, events: Sequence[Event]) -> None:
            release.wait(60)
            super().deliver(events)

    sent = Delivery(told(tmp_path / "t.jsonl", 3), Hanging(), name="sink")
    assert sent.close(0.05) == 4
    release.set()


def test_a_sink_that_knows_nothing_gets_all_again(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first = told(path, 3)
    assert Delivery(first, Recorder(), name="sink").close(60) == 0
    first.close()
    knowing, empty = Recorder(known=True), Recorder(known=False)
    assert Delivery(Journal(path), knowing, name="sink").close(60) == 0
    assert knowing.got == []
    assert Delivery(Journal(path), empty, name="sink").close(60) == 0
    assert empty.got == [0, 1, 2]
