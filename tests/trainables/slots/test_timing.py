"""The timing that chooses between packed and one after another: buckets, and its memory on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.slots.timing import bucket, packing_gain, remembered_gain


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_buckets_are_powers_of_two_below() -> None:
    assert [bucket(slots) for slots in (1, 2, 3, 4, 7, 8, 63, 64, 1000)] == [1, 2, 2, 4, 4, 8, 32, 64, 64]


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
    [entry] = (tmp_path / "orchestrate" / "slots").iterdir()
    entry.write_text("{torn")
    assert remembered_gain(("cnn",), lambda: 2.5) == (2.5, False)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert remembered_gain(("cnn",), lambda: 3.5) == (3.5, False)


def test_the_gain_is_a_ratio_and_zero_for_what_has_no_packed_form() -> None:
    images = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert packing_gain(net, images, slots=2) > 0
    assert packing_gain(nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 2)), images, slots=2) == 0.0
