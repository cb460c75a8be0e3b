"""States go to the disk seldom and beside the training, at once where they are needed; what a write fails of is never lost."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import checkpoint
from trainables.contract import Outcome
from trainables.saving import EVERY, Pace, Saving


class Clock:
    """A clock that goes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets how long, by that clock, a write takes from now on."""
    real = checkpoint.save

    def takes(seconds: float) -> None:
        def save(*args: Any, **kwargs: Any) -> Path:
            clock.now += seconds
            return real(*args, **kwargs)

        monkeypatch.setattr(checkpoint, "save", save)

    return takes


def state(epoch: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"epoch": epoch, "w": torch.full((3,), float(epoch))}


def on_disk(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("epoch-")) for path in sorted(folder.glob("epoch-*"))]


def settle(saving: Saving) -> None:
    """Wait for the write under way."""
    saving._join()


@pytest.mark.parametrize("at_once", [1, 8])
def test_the_first_state_is_due_at_once_and_the_next_after_so_many_times_what_it_took(at_once: int) -> None:
    pace = Pace(at_once)
    assert pace.due(-1e9)
    pace.began, pace.took = 50.0, 0.25
    later = 50.0 + EVERY * at_once * 0.25
    assert pace.due(later) and not pace.due(math.nextafter(later, 0))


@pytest.mark.parametrize(("epoch_s", "takes_s"), [(1.0, 0.01), (1.0, 0.5), (0.1, 2.0), (60.0, 1.0), (7.0, 3.0)])
def test_states_come_in_the_closed_form_period_and_take_their_share_at_most(
    epoch_s: float, takes_s: float, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []

    def save(folder: Path, state: Any, *, epoch: int) -> None:  # noqa: ARG001
        saved.append(epoch)
        clock.now += takes_s  # as if it held the training up all the while

    monkeypatch.setattr(checkpoint, "save", save)
    saving, epochs, begun = Saving(tmp_path, clock=clock), 400, clock.now
    for epoch in range(1, epochs + 1):
        clock.now += epoch_s
        saving.offer(Outcome(epoch), state(epoch))
        settle(saving)
    period = max(1, math.ceil(round((EVERY - 1) * takes_s / epoch_s, 9)))
    assert saved == list(range(1, epochs + 1, period))
    assert (len(saved) - 1) * takes_s <= (clock.now - begun) / EVERY


def test_a_write_goes_on_beside_the_training_and_none_is_due_meanwhile(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, allowed, copied = checkpoint.save, threading.Event(), list[int]()

    def save(*args: Any, **kwargs: Any) -> Path:
        assert allowed.wait(60)
        return real(*args, **kwargs)

    def copy(epoch: int) -> dict[str, Any]:
        copied.append(epoch)
        return state(epoch)()

    monkeypatch.setattr(checkpoint, "save", save)
    with Saving(tmp_path, clock=clock) as saving:
        for epoch in range(1, 4):
            clock.now += 1e6
            saving.offer(Outcome(epoch), lambda epoch=epoch: copy(epoch))  # type: ignore[misc]
        assert (copied, on_disk(tmp_path)) == ([1], [])
        allowed.set()
        settle(saving)
        assert on_disk(tmp_path) == [1]
        clock.now += EVERY * 3e6
        saving.offer(Outcome(4), lambda: copy(4))
    assert (copied, on_disk(tmp_path)) == ([1, 4], [1, 4])


def test_where_it_is_waited_for_the_state_is_on_the_disk_after_whatever_was_under_way(
    tmp_path: Path, clock: Clock, slow: Callable[[float], None]
) -> None:
    slow(1000.0)
    with Saving(tmp_path, waits=(2, 3, 5), clock=clock) as saving:
        for epoch in range(1, 6):
            saving.offer(Outcome(epoch, done=epoch == 5), state(epoch))
            if epoch in (2, 3, 5):
                found = checkpoint.load_newest(tmp_path)
                assert found is not None and found[0] == found[1]["epoch"] == epoch
    assert on_disk(tmp_path) == [3, 5], "the fourth was not due"


def test_no_two_states_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, order = checkpoint.save, list[str]()

    def save(folder: Path, state: Any, *, epoch: int) -> Path:
        order.append(f"begin {epoch}")
        time.sleep(0.1)
        found = real(folder, state, epoch=epoch)
        order.append(f"end {epoch}")
        return found

    monkeypatch.setattr(checkpoint, "save", save)
    with Saving(tmp_path, waits=(2,)) as saving:
        saving.offer(Outcome(1), state(1))
        saving.offer(Outcome(2), state(2))
    assert order == ["begin 1", "end 1", "begin 2", "end 2"]


def test_after_the_last_epoch_nothing_is_saved(tmp_path: Path) -> None:
    with Saving(tmp_path) as saving:
        saving.offer(Outcome(1, done=True), state(1))
    assert on_disk(tmp_path) == []


def test_who_goes_on_has_just_had_a_state(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(3)(), epoch=3)
    real = checkpoint.load_newest

    def load(folder: Path) -> Any:
        clock.now += 2.0
        return real(folder)

    monkeypatch.setattr(checkpoint, "load_newest", load)
    with Saving(tmp_path, clock=clock) as saving:
        began, found = clock.now, saving.load()
        assert found is not None and found["epoch"] == 3
        for epoch, passed in ((4, EVERY * 2.0 - 1), (5, EVERY * 2.0)):
            clock.now = began + passed
            saving.offer(Outcome(epoch), state(epoch))
    assert on_disk(tmp_path) == [3, 5]


def test_with_nothing_to_go_on_from_the_first_is_due(tmp_path: Path) -> None:
    with Saving(tmp_path / "none") as saving:
        assert saving.load() is None
        saving.offer(Outcome(1), state(1))
    assert on_disk(tmp_path / "none") == [1]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any, **__: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", save)


@pytest.mark.usefixtures("full")
def test_a_failed_write_is_raised_by_the_next_offer_once(tmp_path: Path) -> None:
    with Saving(tmp_path) as saving:
        saving.offer(Outcome(1), state(1))
        settle(saving)
        with pytest.raises(OSError, match="No space left"):
            saving.offer(Outcome(2), state(2))


@pytest.mark.usefixtures("full")
def test_a_failed_write_is_raised_where_it_was_waited_for_and_only_told_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Saving(tmp_path) as saving:
        saving.offer(Outcome(1), state(1))
    assert "No space left" in caplog.text
    with pytest.raises(OSError, match="No space left"), Saving(tmp_path, waits=(1,)) as saving:
        saving.offer(Outcome(1), state(1))


@pytest.mark.usefixtures("full")
def test_a_training_that_is_done_does_not_fail_for_an_earlier_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Saving(tmp_path) as saving:
        saving.offer(Outcome(1), state(1))
        settle(saving)
        saving.offer(Outcome(2, done=True), state(2))
    assert "No space left" in caplog.text


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("ending", [SystemExit(0), RuntimeError("the device fell off")])
def test_what_ends_the_training_is_told_before_a_failed_write(
    ending: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(type(ending)), Saving(tmp_path) as saving:
        saving.offer(Outcome(1), state(1))
        raise ending
    assert "No space left" in caplog.text


def test_a_thread_that_is_ended_leaves_with_its_write_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, begun, allowed = checkpoint.save, threading.Event(), threading.Event()

    def save(*args: Any, **kwargs: Any) -> Path:
        begun.set()
        assert allowed.wait(60)
        return real(*args, **kwargs)

    def train() -> None:
        with contextlib.suppress(SystemExit), Saving(tmp_path) as saving:
            saving.offer(Outcome(1), state(1))
            raise SystemExit(0)

    monkeypatch.setattr(checkpoint, "save", save)
    thread = threading.Thread(target=train)
    thread.start()
    assert begun.wait(60)
    assert thread.is_alive() and on_disk(tmp_path) == []
    allowed.set()
    thread.join(60)
    assert not thread.is_alive() and on_disk(tmp_path) == [1]
