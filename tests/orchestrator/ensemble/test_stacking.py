"""Stacking against scikit-learn's own probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from orchestrator.ensemble.stacking import enough_rows, fit_stacking


def features(probs):
    return np.concatenate([np.log(np.maximum(p, 2.0**-24)).astype(np.float64) for p in probs], axis=1)


@pytest.mark.parametrize("classes", [2, 3])
def test_head_equals_scikit_learn(make_pool, classes):
    probs, labels = make_pool(3, 900, classes, seed=classes)
    head = fit_stacking(probs[:, :600], labels[:600])
    model = LogisticRegression(C=0.01, max_iter=1000).fit(features(probs[:, :600]), labels[:600])
    assert head.combine(probs[:, 600:]) == pytest.approx(model.predict_proba(features(probs[:, 600:])), abs=1e-5)


def test_a_class_without_rows_gets_no_probability(make_pool):
    probs, labels = make_pool(2, 900, 3, seed=5)
    rows = labels != 2
    out = fit_stacking(probs[:, rows], labels[rows]).combine(probs)
    assert out[:, 2].max() < 1e-3
    assert out.sum(1) == pytest.approx(1.0, abs=1e-6)


def test_too_few_rows_are_refused(make_pool):
    probs, labels = make_pool(3, 100, 4, seed=6)
    assert not enough_rows(479, 3, 4)
    assert enough_rows(480, 3, 4)
    with pytest.raises(ValueError, match="needs 480 rows; got 100"):
        fit_stacking(probs, labels)
