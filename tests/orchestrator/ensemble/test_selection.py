"""Every selector keeps the promise of weights; each one's own point is checked by another road."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.metrics import log_loss
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.selection import SELECTORS
from orchestrator.ensemble.spec import EnsembleSpec
from orchestrator.ensemble.voting import soft


def measured(probs, labels, metric="accuracy", calibrate=True):
    return scan(Members.of(probs), labels, metric=metric, calibrate=calibrate, seed=0)


def tempered(probs, labels):
    return log_loss(apply_temperature(probs, fit_temperature(probs, labels)), labels)


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "stack_lr"])
def test_weights_are_a_capped_simplex_point_and_repeat(make_pool, name):
    probs, labels = make_pool(12, 300, 3, seed=0)
    pool, spec = measured(probs, labels), EnsembleSpec(max_members=4)
    weights = SELECTORS[name](pool, spec, 0).weights_M
    assert weights.shape == (12,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    assert 1 <= np.count_nonzero(weights) <= 4
    assert np.array_equal(weights, SELECTORS[name](pool, spec, 0).weights_M)


def test_convex_is_no_worse_than_the_best_equal_subset(make_pool):
    probs, labels = make_pool(7, 300, 3, seed=1)
    pool = measured(probs, labels)
    calibrated = np.stack([pool.read(m) for m in range(7)])
    best = min(log_loss(calibrated[list(s)].mean(0), labels) for k in range(1, 8) for s in combinations(range(7), k))
    selection = SELECTORS["convex"](pool, EnsembleSpec(l2=0.0, min_weight=0.0, calibrate=False), 0)
    assert log_loss(soft(calibrated, selection.weights_M), labels) <= best + 1e-5
    assert selection.gap <= 2e-4


def test_greedy_is_near_the_best_equal_subset_of_brute_force(make_pool):
    probs, labels = make_pool(7, 300, 3, seed=2)
    pool = measured(probs, labels)
    calibrated = np.stack([pool.read(m) for m in range(7)])
    best = min(tempered(calibrated[list(s)].mean(0), labels) for k in range(1, 8) for s in combinations(range(7), k))
    weights = SELECTORS["greedy"](pool, EnsembleSpec(method="greedy"), 0).weights_M
    assert tempered(soft(calibrated, weights), labels) <= best + 2e-3


def test_greedy_makes_the_asked_metric_small(make_pool):
    probs, labels = make_pool(15, 400, 4, seed=3)
    pool = measured(probs, labels)
    by_accuracy = SELECTORS["greedy"](pool, EnsembleSpec(method="greedy", select_by="accuracy"), 0)
    by_f1 = SELECTORS["greedy"](pool, EnsembleSpec(method="greedy", select_by="macro_f1", iterations=8), 0)
    calibrated = np.stack([pool.read(m) for m in range(15)])
    assert (soft(calibrated, by_accuracy.weights_M).argmax(1) != labels).mean() == pytest.approx(by_accuracy.trajectory[-1])
    assert by_accuracy.trajectory[-1] <= pool.metric_errors_M.min()
    assert by_f1.trajectory[-1] < by_f1.trajectory[0]


def test_bags_spread_the_weight(make_pool):
    probs, labels = make_pool(20, 300, 4, seed=4)
    pool = measured(probs, labels)
    plain = SELECTORS["greedy"](pool, EnsembleSpec(method="greedy", max_members=20), 0).weights_M
    bagged = SELECTORS["greedy"](pool, EnsembleSpec(method="greedy", max_members=20, bags=10), 0).weights_M
    assert np.count_nonzero(bagged) > np.count_nonzero(plain)
    assert (bagged**2).sum() < (plain**2).sum()


def test_topk_and_single_are_the_best_by_their_own_measures(make_pool):
    probs, labels = make_pool(9, 250, 3, seed=5)
    pool = measured(probs, labels)
    top = SELECTORS["topk"](pool, EnsembleSpec(max_members=3), 0).weights_M
    assert sorted(np.flatnonzero(top)) == sorted(np.argsort(pool.fit_errors_M)[:3])
    assert sorted(top) == pytest.approx([0.0] * 6 + [1 / 3] * 3)
    assert np.argmax(SELECTORS["single"](pool, EnsembleSpec(), 0).weights_M) == np.argmin(pool.metric_errors_M)


def test_prefilter_keeps_the_selector_to_the_best(make_pool):
    probs, labels = make_pool(20, 300, 3, seed=6)
    pool = measured(probs, labels)
    for name in ("convex", "greedy", "log_pool"):
        chosen = np.flatnonzero(SELECTORS[name](pool, EnsembleSpec(prefilter=5), 0).weights_M)
        assert set(chosen) <= set(pool.best(5))


def test_regression_convex_beats_every_single_member():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=400)
    preds = (targets + rng.uniform(0.5, 1.5, (8, 1)) * rng.normal(size=(8, 400)))[:, :, None]
    pool = measured(preds, targets, metric="rmse")
    for name in ("convex", "greedy"):
        weights = SELECTORS[name](pool, EnsembleSpec(metric="rmse", max_members=8), 0).weights_M
        error = soft(preds, weights)[:, 0] - targets
        assert (error**2).mean() < 0.6 * pool.fit_errors_M.min()


def alike(members, rows, seed=0):
    """Members of one skill with noise of their own: whoever seems best is best by chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    logits = rng.normal(size=(members, rows, 3)) + rng.normal(size=(rows, 3))
    logits[:, np.arange(rows), labels] += 1.5
    powers = np.exp(logits)
    return (powers / powers.sum(2, keepdims=True)).astype(np.float32), labels


def far_ahead(members, rows, seed=0):
    """One member knows, the others guess."""
    probs, labels = alike(members, rows, seed)
    rng = np.random.default_rng(seed + 1)
    probs[1:] = rng.dirichlet(np.ones(3), (members - 1, rows))
    return probs, labels


def same_weights(pool, l2):
    found, asked = (SELECTORS["convex"](pool, EnsembleSpec(l2=value), 0).weights_M for value in (None, l2))
    return np.array_equal(found, asked)


def test_members_that_are_alike_are_pulled_together_and_one_far_ahead_is_left_alone():
    even, ahead = measured(*alike(8, 1000)), measured(*far_ahead(8, 1000))
    assert same_weights(even, 0.5)
    assert not same_weights(ahead, 0.5)
    weights = [SELECTORS["convex"](ahead, EnsembleSpec(l2=l2), 0).weights_M[0] for l2 in (None, 0.5)]
    assert weights[0] > weights[1]


def test_below_five_rows_a_member_the_pull_is_the_rules():
    assert same_weights(measured(*alike(30, 100)), 0.5)
    assert same_weights(measured(*far_ahead(30, 149)), 0.5)


def test_the_pull_is_cross_validated_for_numbers_too():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=400)
    preds = targets[None] + rng.normal(size=(6, 400)) * np.array([0.1, 3, 3, 3, 3, 3])[:, None]
    pool = measured(preds[..., None].astype(np.float32), targets, metric="rmse")
    weights = SELECTORS["convex"](pool, EnsembleSpec(metric="rmse"), 0).weights_M
    assert weights[0] > 0.98
