"""Greedy selection against a naive loop over full arrays, written from AutoGluon's description of its own rule.

The real AutoGluon is met in benchmarks/ensemble_selection.py, which checks equal weights too.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from orchestrator.ensemble.greedy import Accuracy, AnyError, TrueClassLogLoss, bagged_greedy, greedy_selection
from orchestrator.ensemble.metrics import brier, log_loss, rmse, true_class


def naive_selection(probs, labels, error, iterations=25):
    """Mean of members, one at a time, error on the full array; six decimals after the first step; no ties among strangers."""
    picks, trajectory, digits = [], [], None
    for step in range(iterations):
        errors = []
        for candidate in range(len(probs)):
            mean = (probs[picks].sum(0, dtype=np.float64) + probs[candidate]) / (step + 1)
            value = error(labels, mean / mean.sum(1, keepdims=True))
            errors.append(value if digits is None else round(value, digits))
        equal = [m for m in range(len(probs)) if np.isclose(errors[m], min(errors), atol=0, rtol=1e-12)]
        equal = [m for m in equal if m in picks] or equal
        if len(equal) > 1:
            means = [(probs[picks].sum(0, dtype=np.float64) + probs[m]) / (step + 1) for m in equal]
            nll = [sk.log_loss(labels, mean / mean.sum(1, keepdims=True), labels=range(mean.shape[1])) for mean in means]
            equal = [equal[int(np.argmin(nll))]]
        if step == 0 and errors[equal[0]] > 1e-4:
            digits = 6
        picks.append(equal[0])
        trajectory.append(round(errors[equal[0]], digits or 17))
    return picks[: int(np.argmin(trajectory)) + 1], trajectory[: int(np.argmin(trajectory)) + 1]


@pytest.mark.parametrize(("members", "rows", "classes", "seed"), [(8, 203, 4, 0), (6, 97, 2, 1)])
def test_log_loss_picks_equal_the_naive_loop(make_pool, members, rows, classes, seed):
    probs, labels = make_pool(members, rows, classes, seed=seed)
    picks, trajectory = naive_selection(probs, labels, lambda y, p: sk.log_loss(y, p, labels=range(classes)))
    result = greedy_selection(TrueClassLogLoss(probs[:, np.arange(rows), labels]), n_members=members)
    assert list(result.picks) == picks
    assert result.trajectory == pytest.approx(trajectory, abs=1e-6)
    assert result.weights_M == pytest.approx(np.bincount(picks, minlength=members) / len(picks))


@pytest.mark.parametrize(("members", "rows", "classes", "seed"), [(8, 203, 4, 0), (6, 160, 2, 1), (6, 97, 11, 2)])
def test_accuracy_picks_equal_the_naive_loop(make_pool, members, rows, classes, seed):
    probs, labels = make_pool(members, rows, classes, seed=seed)
    picks, trajectory = naive_selection(probs, labels, lambda y, p: 1 - (p.argmax(1) == y).mean())
    result = greedy_selection(Accuracy(list(probs), labels), n_members=members)
    assert list(result.picks) == picks
    assert result.trajectory == pytest.approx(trajectory, abs=1e-6)


def test_the_skipped_rows_of_accuracy_change_nothing(make_pool):
    probs, labels = make_pool(6, 500, 5, seed=4)
    fast, slow = Accuracy(list(probs), labels), AnyError(list(probs), labels, lambda p, y: float((p.argmax(1) != y).mean()))
    for member in (0, 3, 3, 5, 1, 0, 2, 4):
        assert fast.errors() == pytest.approx(slow.errors(), abs=1e-12)
        fast.add(member)
        slow.add(member)


def test_any_error_equals_the_fast_log_loss(make_pool):
    probs, labels = make_pool(6, 150, 3, seed=5)
    target = np.stack([true_class(p, labels) for p in probs])
    fast = greedy_selection(TrueClassLogLoss(target), n_members=6, iterations=12)
    slow = greedy_selection(AnyError(list(probs), labels, log_loss), n_members=6, iterations=12)
    assert fast.picks == slow.picks


def test_brier_descends_and_beats_every_single_member(make_pool):
    probs, labels = make_pool(10, 400, 4, seed=6)
    result = greedy_selection(AnyError(list(probs), labels, brier), n_members=10)
    assert all(later <= sooner + 1e-9 for sooner, later in zip(result.trajectory, result.trajectory[1:2], strict=False))
    assert result.trajectory[-1] < min(brier(p, labels) for p in probs)


def test_regression_selection_finds_the_two_that_cancel():
    rng = np.random.default_rng(0)
    targets, error = rng.normal(size=300), rng.normal(size=300)
    preds = [targets + error, targets - error, targets + 1.5 * rng.normal(size=300)]
    result = greedy_selection(AnyError([p[:, None] for p in preds], targets, rmse), n_members=3, iterations=10)
    assert result.weights_M == pytest.approx([0.5, 0.5, 0.0])
    assert result.trajectory[-1] == pytest.approx(0.0, abs=1e-6)


def test_duplicates_do_not_both_enter(make_pool):
    probs, labels = make_pool(5, 200, 3, seed=7)
    doubled = np.concatenate([probs, probs])
    result = greedy_selection(TrueClassLogLoss(doubled[:, np.arange(200), labels]), n_members=10)
    assert not np.any((result.weights_M[:5] > 0) & (result.weights_M[5:] > 0))


def test_one_member_is_picked_once():
    result = greedy_selection(TrueClassLogLoss(np.full((1, 9), 0.5)), n_members=1)
    assert result.picks == (0,)
    assert result.trajectory == (pytest.approx(np.log(2), abs=1e-6),)


def test_zero_probabilities_and_many_steps_stay_finite():
    target = np.array([[0.0, 1.0, 0.0] * 20, [1.0, 0.0, 0.0] * 20], dtype=np.float32)
    result = greedy_selection(TrueClassLogLoss(target), n_members=2, iterations=100)
    assert np.isfinite(result.trajectory).all()
    assert result.weights_M == pytest.approx([0.5, 0.5])


def test_more_diversity_weight_means_more_ambiguity(make_pool):
    probs, labels = make_pool(20, 400, 4, seed=8)
    target = np.stack([true_class(p, labels) for p in probs]).astype(np.float64)

    def ambiguity(weight):
        w = greedy_selection(TrueClassLogLoss(target), n_members=20, diversity=weight).weights_M
        return -(w @ np.log(target)).mean() + np.log(w @ target).mean()

    assert ambiguity(2.0) > ambiguity(0.0)


def test_bags_average_selections_of_subsets(make_pool):
    probs, labels = make_pool(10, 300, 4, seed=9)
    target = np.stack([true_class(p, labels) for p in probs])
    result = bagged_greedy(lambda kept: TrueClassLogLoss(target[kept]), n_members=10, bags=8, seed=1)
    again = bagged_greedy(lambda kept: TrueClassLogLoss(target[kept]), n_members=10, bags=8, seed=1)
    assert result.weights_M.sum() == pytest.approx(1.0)
    assert np.array_equal(result.weights_M, again.weights_M)
    whole = bagged_greedy(lambda kept: TrueClassLogLoss(target[kept]), n_members=10, bags=1, fraction=1.0, seed=1)
    assert whole.weights_M == pytest.approx(greedy_selection(TrueClassLogLoss(target), n_members=10, seed=1).weights_M)
