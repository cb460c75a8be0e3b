"""Combining by hand, and the round trip through JSON text."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensemble.ensemble import CrossFit, Ensemble
from orchestrator.ensemble.stacking import LinearHead


def make(**changes):
    values = {
        "members": (4, 1), "member_ids": ("d", "a"), "weights": (0.75, 0.25), "temperatures": (2.0, 0.5),
        "temperature": 1.5, "voting": "soft", "method": "convex", "metric": "accuracy",
    }  # fmt: skip
    return Ensemble(**{**values, **changes})


def power(probs, temperature):
    raised = probs ** (1 / temperature)
    return raised / raised.sum(1, keepdims=True)


def test_combine_equals_the_formula():
    first, second = np.random.default_rng(0).dirichlet(np.ones(4), (2, 30))
    a, b = power(first, 2.0), power(second, 0.5)
    assert make().combine([first, second]) == pytest.approx(power(0.75 * a + 0.25 * b, 1.5), abs=1e-5)
    assert make(voting="log").combine([first, second]) == pytest.approx(power(power(a**0.75 * b**0.25, 1.0), 1.5), abs=1e-5)
    assert np.array_equal(make(voting="hard").combine([first, second]).argmax(1), first.argmax(1))
    assert np.array_equal(make().combine(iter([first, second])), make().combine(np.stack([first, second])))


def test_regression_is_the_weighted_mean():
    preds = np.random.default_rng(0).normal(size=(2, 5, 1))
    out = make(metric="mae").combine(preds)
    assert out == pytest.approx(0.75 * preds[0] + 0.25 * preds[1], abs=1e-6)


def test_a_wrong_number_of_predictions_is_refused():
    with pytest.raises(ValueError, match="has 2 members; predictions of 3 came"):
        make().combine(np.full((3, 2, 2), 0.5))


def test_json_round_trip():
    cross_fit = CrossFit("accuracy", 5, {"accuracy": 0.9}, {"accuracy": 0.8}, 0.01, 0.1, 0.05, 0.15)
    head = LinearHead(((0.1, 0.2), (0.3, 0.4)), (0.0, -0.5))
    for ensemble in (make(), make(cross_fit=cross_fit, head=head, gap=1e-6, trajectory=(0.2, 0.1), notices=("said",))):
        assert Ensemble.from_json(json.loads(json.dumps(ensemble.to_json()))) == ensemble


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="format 99"):
        Ensemble.from_json({**make().to_json(), "format": 99})
