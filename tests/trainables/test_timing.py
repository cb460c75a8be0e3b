"""Timings of two ways: their ratio, and their memory on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainables import timing
from trainables.timing import AGREE, STEPS, WARM, ratio, remembered_gain


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_timing_is_made_once_for_all_processes_and_again_for_other_words() -> None:
    asked: list[str] = []

    def measure(name: str, gain: float) -> float:
        asked.append(name)
        return gain

    assert remembered_gain(("cnn", 4), lambda: measure("first", 1.5)) == (1.5, False)
    assert remembered_gain(("cnn", 4), lambda: measure("again", 9.0)) == (1.5, True)
    assert remembered_gain(("cnn", 8), lambda: measure("other", 0.5)) == (0.5, False)
    assert asked == ["first", "other"]


def test_a_spoilt_or_unwritable_cache_only_costs_the_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered_gain(("cnn",), lambda: 1.5)
    [entry] = (tmp_path / "orchestrate" / "timings").iterdir()
    entry.write_text("{torn")
    assert remembered_gain(("cnn",), lambda: 2.5) == (2.5, False)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert remembered_gain(("cnn",), lambda: 3.5) == (3.5, False)


def test_of_two_processes_that_measure_at_once_the_first_is_believed() -> None:
    def slow() -> float:
        assert remembered_gain(("cnn",), lambda: 1.5) == (1.5, False)  # another process is done meanwhile
        return 0.5

    assert remembered_gain(("cnn",), slow) == (1.5, True)


def test_the_ratio_is_the_first_ways_time_over_the_seconds() -> None:
    assert ratio(lambda: time.sleep(0.02), lambda: time.sleep(0.002), torch.device("cpu")) > 2


def test_a_question_that_few_steps_answer_takes_few(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = [0.0], []

    def takes(*seconds: float) -> Callable[[], None]:
        def way() -> None:
            steps.append(seconds)
            clock[0] += seconds[(len(steps) - 1) // 2 % len(seconds)]

        return way

    monkeypatch.setattr(timing, "now", lambda _: clock[0])
    for first, asked, expected, taken in (
        ((2.0,), 1.1, 2.0, WARM + AGREE),
        ((0.5,), 1.1, 0.5, WARM + AGREE),
        ((1.0, 1.2), 1.1, 1.2, WARM + STEPS),  # it is now above, now below: all are timed
        ((2.0,), 0.0, 2.0, WARM + STEPS),
    ):
        steps.clear()
        assert ratio(takes(*first), takes(1.0), torch.device("cpu"), asked=asked) == pytest.approx(expected)
        assert len(steps) == 2 * taken
