"""The figure of the growth: which rows of the report become which points."""

from __future__ import annotations

import sys
from typing import Any

import pytest


@pytest.fixture
def growth() -> Any:
    import growth as module

    yield module
    sys.modules.pop("growth")


def search(**ratios: float) -> dict[str, Any]:
    return {"found": {"medians": {way: {"wall_ratio": ratio} for way, ratio in ratios.items()}}}


def test_rows_become_points(growth: Any) -> None:
    steps = [{"net": "a", "slots": 4, "ratio": 2.0}]
    report = {
        "search, small, 6 trials": search(plain=1.0, ray=2.0), "search, small, 64 trials": search(ray=6.0),
        "search, fashion, 4 trials": search(ray=9.0), "search, fashion, 16 trials": search(ray=3.0),
        "search, fashion_5k, 16 trials": search(ray=4.0), growth.STEPS: {"found": steps},
    }  # fmt: skip
    assert set(growth.of_trials(report)) == {("plain", 6.0, 1.0), ("ray", 6.0, 2.0), ("ray", 64.0, 6.0)}
    assert set(growth.of_images(report)) == {("ray", 5000.0, 4.0), ("ray", 60000.0, 3.0)}
    assert list(growth.of_slots(report)) == [("a", 4.0, 2.0)]
    lines = [len(axes.get_lines()) for axes in growth.drawn(report).axes]
    assert lines == [2, 1, 1]


def test_nothing_measured_is_an_empty_figure(growth: Any) -> None:
    assert [len(axes.get_lines()) for axes in growth.drawn({}).axes] == [0, 0, 0]
