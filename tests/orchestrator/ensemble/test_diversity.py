"""Diversity against scikit-learn, numpy, the textbook's formulas and exact identities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from orchestrator.ensemble import diversity as dv
from orchestrator.ensemble.metrics import log_loss, rmse


def test_pairwise_measures_equal_their_definitions(make_pool):
    probs, labels = make_pool(4, 400, 3, seed=0)
    found = dv.diversity(probs, labels)
    said = probs.argmax(2)
    right = said == labels
    for i in range(4):
        for j in range(4):
            n11, n00 = (right[i] & right[j]).sum(), (~right[i] & ~right[j]).sum()
            n10, n01 = (right[i] & ~right[j]).sum(), (~right[i] & right[j]).sum()
            assert found.disagreement[i, j] == pytest.approx((said[i] != said[j]).mean())
            assert found.double_fault[i, j] == pytest.approx(n00 / 400)
            assert found.q_statistic[i, j] == pytest.approx((n11 * n00 - n01 * n10) / (n11 * n00 + n01 * n10))
            assert found.kappa[i, j] == pytest.approx(cohen_kappa_score(said[i], said[j]))
            assert found.error_correlation[i, j] == pytest.approx(np.corrcoef(right[i], right[j])[0, 1])
    off = ~np.eye(4, dtype=bool)
    assert found.mean("disagreement") == pytest.approx(found.disagreement[off].mean())
    assert found.disagreement_error_ratio == pytest.approx(found.disagreement[off].mean() / (~right).mean())


def test_independent_errors_have_no_q_and_no_correlation():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50_000)
    said = np.where(rng.random((2, 50_000)) < 0.2, (labels + 1) % 3, labels)
    found = dv.diversity(np.eye(3)[said], labels)
    assert found.mean("q_statistic") == pytest.approx(0.0, abs=0.05)
    assert found.mean("error_correlation") == pytest.approx(0.0, abs=0.02)
    assert found.mean("double_fault") == pytest.approx(0.04, abs=0.005)


def test_undefined_measures_are_null_in_json():
    labels = np.array([0, 1, 0])
    perfect = np.eye(2)[labels]
    stored = json.loads(json.dumps(dv.diversity(np.stack([perfect, perfect]), labels).to_json(), allow_nan=False))
    assert stored["mean_q_statistic"] is None
    assert stored["disagreement_error_ratio"] is None
    assert stored["mean_disagreement"] == 0.0
    assert dv.diversity(perfect[None], labels).to_json()["mean_disagreement"] is None


def test_log_loss_ambiguity_is_exact_and_never_negative(make_pool):
    probs, labels = make_pool(4, 300, 3, seed=1)
    weights = np.array([0.1, 0.4, 0.3, 0.2])
    found = dv.log_loss_ambiguity(probs, weights, labels)
    assert found.ensemble == pytest.approx(log_loss(np.tensordot(weights, probs, 1), labels), abs=1e-6)
    assert found.members == pytest.approx(weights @ [log_loss(p, labels) for p in probs], abs=1e-6)
    assert found.ensemble == pytest.approx(found.members - found.ambiguity)
    assert found.ambiguity > 0
    assert dv.log_loss_ambiguity(probs[[0, 0]], np.ones(2), labels).ambiguity == pytest.approx(0.0, abs=1e-12)


def test_squared_error_ambiguity_is_exact():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=200)
    preds = targets + rng.normal(size=(3, 200))
    weights = np.array([0.5, 0.2, 0.3])
    found = dv.squared_error_ambiguity(preds[:, :, None], weights, targets)
    assert found.ensemble == pytest.approx(rmse((weights @ preds)[:, None], targets) ** 2)
    assert found.members == pytest.approx(weights @ ((preds - targets) ** 2).mean(1))


def test_contested_rows_come_decided_and_surest_first():
    first = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.8, 0.2, 0.0]])
    second = np.array([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.0, 0.9, 0.1]])
    labels = np.array([0, 0, 1, 2])
    assert dv.contested_rows(first, second, labels).tolist() == [2, 1, 3]
