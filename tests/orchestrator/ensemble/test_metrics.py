"""Metrics against scikit-learn, scipy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from orchestrator.ensemble import metrics


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(7), 400).astype(np.float32)
    return probs, rng.integers(0, 6, 400)  # class 6 never occurs as a label


def test_classification_metrics_equal_scikit_learn(case):
    probs, labels = case
    predicted, all_classes = probs.argmax(1), list(range(7))
    assert metrics.accuracy(probs, labels) == sk.accuracy_score(labels, predicted)
    assert metrics.log_loss(probs, labels) == pytest.approx(sk.log_loss(labels, probs, labels=all_classes), abs=1e-6)
    assert metrics.top_k(probs, labels, k=3) == sk.top_k_accuracy_score(labels, probs, k=3, labels=all_classes)
    present = [c for c in all_classes if c in set(labels)]
    assert metrics.balanced_accuracy(probs, labels) == pytest.approx(
        sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )
    assert metrics.macro_f1(probs, labels) == pytest.approx(sk.f1_score(labels, predicted, average="macro", zero_division=0))
    assert metrics.brier(probs, labels) == pytest.approx(((probs - np.eye(7)[labels]) ** 2).sum(1).mean(), abs=1e-6)


def test_regression_metrics_equal_scikit_learn():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=200)
    preds = (targets + 0.3 * rng.normal(size=200)).astype(np.float32)[:, None]
    assert metrics.rmse(preds, targets) == pytest.approx(sk.root_mean_squared_error(targets, preds))
    assert metrics.mae(preds, targets) == pytest.approx(sk.mean_absolute_error(targets, preds))
    assert metrics.r2(preds, targets) == pytest.approx(sk.r2_score(targets, preds))


def test_ece_equals_a_loop_over_sorted_bins(case):
    probs, labels = case
    rows = sorted(range(400), key=lambda n: probs[n].max())
    expected = 0.0
    for part in np.array_split(rows, 15):
        confidence = np.mean([probs[n].max() for n in part])
        share = np.mean([probs[n].argmax() == labels[n] for n in part])
        expected += len(part) / 400 * abs(confidence - share)
    assert metrics.ece(probs, labels) == pytest.approx(expected, abs=1e-6)


def test_ece_of_known_miscalibration():
    probs = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (1000, 1))
    labels = np.array([0] * 600 + [1] * 400)
    assert metrics.ece(probs, np.random.default_rng(0).permutation(labels), bins=1) == pytest.approx(0.3, abs=1e-6)


def test_a_zero_probability_costs_a_finite_number():
    probs = np.array([[1.0, 0.0]], dtype=np.float32)
    assert metrics.log_loss(probs, np.array([1])) == pytest.approx(24 * np.log(2))


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (7, 10), (953, 1000)])
def test_wilson_interval_equals_scipy(correct, n):
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert metrics.wilson_interval(correct, n) == pytest.approx((expected.low, expected.high))


def test_wilson_interval_refuses_nonsense():
    with pytest.raises(ValueError, match="correct=3, n=2"):
        metrics.wilson_interval(3, 2)


def test_error_of_turns_scores_into_errors(case):
    probs, labels = case
    assert metrics.error_of("accuracy", probs, labels) == pytest.approx(1 - metrics.accuracy(probs, labels))
    assert metrics.error_of("log_loss", probs, labels) == metrics.log_loss(probs, labels)


def test_r2_of_constant_targets():
    assert metrics.r2(np.ones((3, 1)), np.ones(3)) == 1.0
    assert metrics.r2(np.zeros((3, 1)), np.ones(3)) == 0.0
