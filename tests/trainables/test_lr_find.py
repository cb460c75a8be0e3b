"""The range test finds the steepest descent of curves whose answer is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.lr_find import lr_range_test, steepest


def test_the_steepest_point_of_a_logistic_fall_is_its_middle() -> None:
    rates = np.geomspace(1e-6, 1.0, 201)
    losses = 1 / (1 + np.exp(4 * (np.log10(rates) + 2.5)))
    assert steepest(list(rates), list(losses)) == pytest.approx(10**-2.5, rel=0.05)


def test_a_whole_run_on_a_quadratic_stops_when_it_diverges() -> None:
    """Gradient descent on 25 w^2 / 2 diverges at rates above 2 / 25 and gets there fastest just below."""
    w, seen = [1.0], []

    def step(rate: float) -> float:
        seen.append(rate)
        loss = 12.5 * w[0] ** 2 + 0.01
        w[0] -= rate * 25 * w[0]
        return loss

    curve = lr_range_test(step, low=1e-5, high=10.0, steps=120, smoothing=0.0)
    assert curve.rates == tuple(seen)
    assert 2 / 25 < curve.rates[-1] < 10.0
    assert curve.suggestion is not None
    assert 1e-4 < curve.suggestion < 2 / 25
    assert curve.smoothed == pytest.approx(curve.losses)


def test_rates_are_geometric_and_smoothing_is_the_bias_corrected_average() -> None:
    losses = iter([4.0, 2.0, 3.0, 1.0])
    curve = lr_range_test(lambda _: next(losses), low=0.001, high=1.0, steps=4, smoothing=0.5)
    assert curve.rates == pytest.approx((0.001, 0.01, 0.1, 1.0))
    assert curve.smoothed == pytest.approx((4.0, (0.5 * 4 + 2) / 1.5, (0.25 * 4 + 0.5 * 2 + 3) / 1.75, 3.5 / 1.875))


def test_a_nan_ends_the_test_and_keeps_what_was_seen() -> None:
    losses = iter([3.0, 2.0, 1.0, math.nan, 0.0])
    assert lr_range_test(lambda _: next(losses), steps=5, smoothing=0.0).losses == (3.0, 2.0, 1.0)


def test_a_loss_that_never_falls_has_no_suggestion() -> None:
    losses = iter([1.0, 1.1, 1.2, 1.3])
    assert lr_range_test(lambda _: next(losses), steps=4).suggestion is None
    assert lr_range_test(lambda _: 1.0, steps=4).suggestion is None


def test_bad_ranges_and_a_bad_start_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < low < high"):
        lr_range_test(lambda _: 1.0, low=1.0, high=0.1)
    with pytest.raises(ValueError, match="not finite at the first rate"):
        lr_range_test(lambda _: math.inf)
