"""Patience counts from the last improvement of either score."""

from __future__ import annotations

import math

import pytest

from trainables.stopping import Patience


def run(patience: Patience, scores: list[tuple[float, float]]) -> list[bool]:
    return [patience.update(loss, accuracy) for loss, accuracy in scores]


@pytest.mark.parametrize(
    ("epochs", "scores", "stops"),
    [
        (2, [(1.0, 0.5), (1.1, 0.5), (1.2, 0.4)], [False, False, True]),
        (2, [(1.0, 0.5), (1.1, 0.6), (1.2, 0.6), (0.9, 0.1), (1.0, 0.6), (1.0, 0.6)], [False] * 5 + [True]),
        (1, [(1.0, 0.5), (1.0, 0.5)], [False, True]),
        (0, [(1.0, 0.5)] + [(2.0, 0.1)] * 9, [False] * 10),
    ],
)
def test_it_stops_after_so_many_epochs_without_better(
    epochs: int, scores: list[tuple[float, float]], stops: list[bool]
) -> None:
    assert run(Patience(epochs), scores) == stops


def test_regression_has_no_accuracy() -> None:
    patience = Patience(1)
    assert not patience.update(1.0)
    assert not patience.update(0.5)
    assert patience.update(0.5)


def test_state_goes_on() -> None:
    first = Patience(3)
    run(first, [(1.0, 0.5), (1.1, 0.5)])
    second = Patience(3)
    second.load_state(first.state())
    assert second.waited == 1
    assert run(second, [(1.1, 0.5), (1.1, 0.5)]) == [False, True]
    fresh = Patience(3)
    fresh.load_state(Patience(3).state())
    assert fresh.best_loss == math.inf
