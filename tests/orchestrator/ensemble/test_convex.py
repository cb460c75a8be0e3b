"""Simplex weights against scipy's SLSQP, closed forms, brute force over subsets, and their own certificate."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from orchestrator.ensemble.convex import (
    log_loss_objective,
    minimise_on_simplex,
    sparse_on_simplex,
    squared_error_objective,
)
from orchestrator.ensemble.greedy import TrueClassLogLoss, greedy_selection
from orchestrator.ensemble.metrics import true_class


def slsqp(objective, n_members):
    start = np.full(n_members, 1 / n_members)
    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1}
    found = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_members,
        constraints=constraint,
        options={"ftol": 1e-13, "maxiter": 500},
    )
    return found.x, found.fun


@pytest.mark.parametrize(("l2", "diversity"), [(0.0, 0.0), (0.1, 0.0), (0.5, 0.3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_log_loss_optimum_equals_slsqp(make_pool, l2, diversity, seed):
    probs, labels = make_pool(8, 300, 4, seed=seed)
    objective = log_loss_objective(np.stack([true_class(p, labels) for p in probs]), l2=l2, diversity=diversity)
    weights, value = slsqp(objective, 8)
    ours = minimise_on_simplex(objective, 8)
    assert ours.value <= value + 1e-7
    assert ours.weights_M == pytest.approx(weights, abs=2e-3)
    assert 0 <= ours.gap <= 2e-4
    assert ours.weights_M.sum() == pytest.approx(1.0)


def test_gradients_equal_finite_differences(make_pool):
    probs, labels = make_pool(5, 100, 3, seed=2)
    targets = np.linspace(-1, 1, 100)
    preds = np.random.default_rng(0).normal(size=(5, 100)) + targets
    for objective in (
        log_loss_objective(np.stack([true_class(p, labels) for p in probs]), l2=0.2, diversity=0.4),
        squared_error_objective(preds, targets, l2=0.2, diversity=0.4),
    ):
        point, step = np.array([0.1, 0.3, 0.2, 0.25, 0.15]), 1e-6
        numeric = [(objective(point + step * e)[0] - objective(point - step * e)[0]) / (2 * step) for e in np.eye(5)]
        assert objective(point)[1] == pytest.approx(numeric, abs=1e-6)


def test_the_gap_bounds_the_distance_from_the_optimum(make_pool):
    probs, labels = make_pool(10, 400, 5, seed=3)
    objective = log_loss_objective(np.stack([true_class(p, labels) for p in probs]))
    best = minimise_on_simplex(objective, 10)
    rough = minimise_on_simplex(objective, 10, max_iterations=3)
    assert rough.value - best.value <= rough.gap
    assert rough.gap > best.gap


@pytest.mark.parametrize("members", [50, 200])
def test_certified_gap_on_larger_pools_and_no_worse_than_greedy(make_pool, members):
    probs, labels = make_pool(members, 1000, 5, seed=4)
    target = np.stack([true_class(p, labels) for p in probs])
    best = minimise_on_simplex(log_loss_objective(target), members)
    assert best.gap <= 2e-4
    greedy = greedy_selection(TrueClassLogLoss(target), n_members=members)
    assert best.value <= greedy.trajectory[-1] + 1e-6


def test_squared_error_equals_the_closed_form_of_two_members():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=500)
    preds = targets + np.array([[1.0], [2.0]]) * rng.normal(size=(2, 500))
    a, b = preds - targets
    first = (b @ b - a @ b) / (a @ a + b @ b - 2 * a @ b)
    ours = minimise_on_simplex(squared_error_objective(preds, targets), 2)
    assert ours.weights_M == pytest.approx([first, 1 - first], abs=1e-4)


def test_sparse_weights_find_the_best_subset_of_brute_force(make_pool):
    probs, labels = make_pool(7, 300, 4, seed=5, own=1.0)
    target = np.stack([true_class(p, labels) for p in probs])
    values = {}
    for size in (1, 2, 3):
        for kept in combinations(range(7), size):
            values[kept] = minimise_on_simplex(log_loss_objective(target[list(kept)]), size).value
    ours = sparse_on_simplex(lambda kept: log_loss_objective(target[kept]), n_members=7, min_weight=0.01, max_members=3)
    assert np.count_nonzero(ours.weights_M) <= 3
    ranked = sorted(values.values())
    assert ours.value <= ranked[3]  # among the four best of 63 subsets
    assert ours.value < min(v for k, v in values.items() if len(k) == 1)


def test_small_weights_are_dropped_and_the_rest_fitted_again(make_pool):
    probs, labels = make_pool(12, 400, 4, seed=6)
    target = np.stack([true_class(p, labels) for p in probs])
    ours = sparse_on_simplex(lambda kept: log_loss_objective(target[kept]), n_members=12, min_weight=0.05, max_members=12)
    kept = np.flatnonzero(ours.weights_M)
    assert ours.weights_M[kept].min() >= 0.05
    assert ours.weights_M[kept] == pytest.approx(minimise_on_simplex(log_loss_objective(target[kept]), len(kept)).weights_M)


def test_strong_l2_goes_to_uniform(make_pool):
    probs, labels = make_pool(6, 200, 3, seed=7)
    objective = log_loss_objective(np.stack([true_class(p, labels) for p in probs]), l2=1e4)
    assert minimise_on_simplex(objective, 6).weights_M == pytest.approx(np.full(6, 1 / 6), abs=1e-3)


def test_one_member_gets_all(make_pool):
    probs, labels = make_pool(1, 50, 3, seed=8)
    result = sparse_on_simplex(
        lambda kept: log_loss_objective(true_class(probs[0], labels)[None][kept]), n_members=1, min_weight=0.01, max_members=5
    )
    assert result.weights_M == pytest.approx([1.0])
    assert result.gap == pytest.approx(0.0, abs=1e-9)
