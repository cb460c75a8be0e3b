"""The gate's statistics against scipy, closed forms, and pools that deserve a verdict each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from orchestrator.ensemble.gate import decide, mcnemar, paired_difference
from orchestrator.ensemble.metrics import METRICS, row_log_loss


def test_log_loss_interval_equals_scipys_bootstrap(make_pool):
    (ours, theirs), labels = make_pool(2, 500, 4, seed=0)
    difference = row_log_loss(ours, labels) - row_log_loss(theirs, labels)
    expected = bootstrap(
        (difference,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = paired_difference(ours, theirs, labels, metric="log_loss", seed=0, resamples=4000)
    assert found.value == pytest.approx(difference.mean())
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)


def test_accuracy_interval_equals_the_normal_formula(make_pool):
    (ours, theirs), labels = make_pool(2, 2000, 4, seed=1)
    difference = (ours.argmax(1) == labels).astype(float) - (theirs.argmax(1) == labels)
    half = 1.96 * difference.std() / np.sqrt(2000)
    found = paired_difference(ours, theirs, labels, metric="accuracy", seed=0)
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.1 * half)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "ece", "brier"])
def test_other_metrics_have_intervals_around_the_difference(make_pool, metric):
    (ours, theirs), labels = make_pool(2, 300, 4, seed=2)
    found = paired_difference(ours, theirs, labels, metric=metric, seed=0)
    assert found.value == pytest.approx(METRICS[metric].function(ours, labels) - METRICS[metric].function(theirs, labels))
    assert found.low < found.high
    if metric != "ece":  # resampling biases the calibration error upward in both
        assert found.low < found.value < found.high


def test_rmse_interval():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=400)
    ours, theirs = (targets + rng.normal(size=400))[:, None], (targets + 2 * rng.normal(size=400))[:, None]
    found = paired_difference(ours, theirs, targets, metric="rmse", seed=0)
    assert found.low < -1.0 + 0.3 < 0
    assert found.high < 0


@pytest.mark.parametrize(("only_ours", "only_theirs"), [(0, 0), (3, 9), (40, 12), (7, 7)])
def test_mcnemar_equals_the_binomial_tail(only_ours, only_theirs):
    ours = np.array([True] * (5 + only_ours) + [False] * only_theirs)
    theirs = np.array([True] * 5 + [False] * only_ours + [True] * only_theirs)
    n = only_ours + only_theirs
    expected = 1.0 if n == 0 else min(1.0, 2 * binom.cdf(min(only_ours, only_theirs), n, 0.5))
    assert mcnemar(ours, theirs) == pytest.approx(expected)


def verdict(ours, theirs, labels, metric):
    return decide(ours, theirs, labels, metric=metric, reference="best single", seed=0)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier"])
def test_better_worse_and_equal_are_told_apart(make_pool, metric):
    probs, labels = make_pool(11, 1000, 4, seed=3)
    mean, single = probs.mean(0), probs[0]
    better = verdict(mean, single, labels, metric)
    assert (better.verdict, better.recommended) == ("gain", "ensemble")
    worse = verdict(single, mean, labels, metric)
    assert (worse.verdict, worse.recommended) == ("worse", "single")
    same = verdict(mean, mean, labels, metric)
    assert (same.verdict, same.recommended, same.mcnemar_p) == ("no gain", "single", 1.0)


def test_regression_verdict():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=500)
    preds = targets + rng.normal(size=(5, 500))
    found = verdict(preds.mean(0)[:, None], preds[0][:, None], targets, "rmse")
    assert (found.verdict, found.mcnemar_p) == ("gain", None)
    assert verdict(preds[0][:, None], preds.mean(0)[:, None], targets, "r2").verdict == "worse"


def test_a_sure_but_tiny_gain_is_not_worth_an_ensemble(make_pool):
    (single,), labels = make_pool(1, 2000, 4, seed=5)
    hair = single.copy()
    hair[np.arange(2000), labels] *= 1.002  # every row a little better: the interval is far from zero
    hair /= hair.sum(1, keepdims=True)
    found = verdict(hair, single, labels, "log_loss")
    assert found.high < 0
    assert found.verdict == "no gain"
