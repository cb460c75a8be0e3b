"""The logarithmic pool against scipy's own optimum, a grid, and the temperature of a single member."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.log_pool import log_pool_weights
from orchestrator.ensemble.metrics import log_loss
from orchestrator.ensemble.voting import logarithmic


def pooled(probs, weights, temperature):
    return apply_temperature(logarithmic(probs, weights), temperature)


def test_optimum_equals_a_derivative_free_search(make_pool):
    probs, labels = make_pool(3, 400, 4, seed=0)
    logs = np.log(np.maximum(probs, 2.0**-24).astype(np.float64))

    def loss(weights):
        logits = np.tensordot(np.abs(weights), logs, 1)
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(400), labels]).mean()

    search = minimize(loss, np.full(3, 1 / 3), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000})
    ours = log_pool_weights(probs, labels, l2=0.0, min_weight=0.0, max_members=3)
    assert ours.loss == pytest.approx(search.fun, abs=1e-5)
    assert ours.weights_K / ours.temperature == pytest.approx(np.abs(search.x), abs=5e-3)
    assert log_loss(pooled(probs, ours.weights_K, ours.temperature), labels) == pytest.approx(ours.loss, abs=1e-5)


def test_one_member_gets_its_own_temperature(make_pool):
    probs, labels = make_pool(1, 800, 4, seed=1, spread=1.0)
    ours = log_pool_weights(probs, labels, l2=0.0, min_weight=0.0, max_members=1)
    assert ours.temperature == pytest.approx(fit_temperature(probs[0], labels), rel=1e-2)
    assert ours.weights_K == pytest.approx([1.0])


def test_cap_and_least_weight_hold(make_pool):
    probs, labels = make_pool(12, 500, 4, seed=2)
    ours = log_pool_weights(probs, labels, l2=1e-3, min_weight=0.05, max_members=4)
    kept = ours.weights_K[ours.weights_K > 0]
    assert len(kept) <= 4
    assert kept.min() >= 0.05
    assert kept.sum() == pytest.approx(1.0)


def test_strong_l2_goes_to_uniform(make_pool):
    probs, labels = make_pool(4, 300, 3, seed=3)
    ours = log_pool_weights(probs, labels, l2=1e4, min_weight=0.0, max_members=4)
    assert ours.weights_K == pytest.approx(np.full(4, 0.25), abs=1e-3)
    assert ours.temperature == pytest.approx(1.0, abs=1e-2)
