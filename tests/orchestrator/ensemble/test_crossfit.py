"""Cross-fitting sees no row that it predicts, and its scores are honest where naive ones flatter."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.crossfit import cross_fitted, fold_of_rows, judge_procedure, usable_folds
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.procedure import assemble
from orchestrator.ensemble.spec import EnsembleSpec


def measured(probs, labels):
    return scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)


def test_folds_are_stratified_like_scikit_learns():
    labels = np.random.default_rng(0).choice(4, 203, p=[0.6, 0.3, 0.08, 0.02])
    ours = fold_of_rows(labels, 5, seed=1)
    theirs = np.empty(203, dtype=int)
    for k, (_, rows) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)):
        theirs[rows] = k
    for c in range(4):
        counts = np.bincount(ours[labels == c], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == np.bincount(theirs[labels == c], minlength=5).sum()
    assert np.bincount(ours).max() - np.bincount(ours).min() <= 1
    assert not np.array_equal(ours, fold_of_rows(labels, 5, seed=2))


def test_each_row_is_predicted_by_an_ensemble_that_did_not_see_it(make_pool):
    probs, labels = make_pool(6, 90, 3, seed=0)
    pool = measured(probs, labels)
    procedure = partial(assemble, spec=EnsembleSpec(), method="convex", seed=0)
    found = cross_fitted(pool, {"convex": procedure}, folds=3, calibrate=True, seed=4)["convex"]
    fold_N = fold_of_rows(labels, 3, seed=4)
    for fold in range(3):
        train, held = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        ensemble = procedure(measured(probs[:, train], labels[train]))
        assert np.array_equal(found[held], ensemble.combine([probs[m][held] for m in ensemble.members]))


def test_the_winners_curse_is_taken_off():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    said = np.where(rng.random((80, 300)) < 0.3, 1 - labels, labels)  # every member has 70 % by construction
    probs = np.where(np.eye(2, dtype=bool)[said], 0.7, 0.3).astype(np.float32)
    pool = measured(probs, labels)
    single = partial(assemble, spec=EnsembleSpec(), method="single", seed=0)
    found = judge_procedure(pool, single, single, folds=5, calibrate=True, seed=0)
    naive = 1 - pool.metric_errors_M[pool.single]
    assert naive > 0.74
    assert found.single_scores["accuracy"] == pytest.approx(0.7, abs=0.05)
    assert found.single_optimism == pytest.approx(naive - found.single_scores["accuracy"])
    assert found.single_optimism > 0.02
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)


def test_folds_need_two_rows_each():
    assert usable_folds(10, 5) == 5
    assert usable_folds(9, 5) == 0
    assert usable_folds(100, 0) == 0
