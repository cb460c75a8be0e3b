"""The fitted head against scikit-learn's own estimators on standardised features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from trainables.linear_head import ABSENT, LinearHead, fit_head
from trainables.metrics import evaluate_probabilities


def digits(classes: int, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits(n_class=classes)
    return bunch.data[:rows], bunch.target[:rows].astype(np.int64)


def fit(features: np.ndarray, targets: np.ndarray, classes: int, **options: object) -> LinearHead:
    values = {"kind": "logistic", "strength": 0.1, "balanced": False, "seed": 0, **options}
    return fit_head(features, targets, classes=classes, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_regression_is_scikit_learns(classes: int, balanced: bool) -> None:
    features, targets = digits(classes)
    theirs = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced" if balanced else None)
    ).fit(features, targets)
    found = fit(features, targets, classes, balanced=balanced).probabilities(features)
    np.testing.assert_allclose(found, theirs.predict_proba(features), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_svm_decides_as_scikit_learns_and_has_sensible_probabilities(classes: int) -> None:
    features, targets = digits(classes)
    theirs = make_pipeline(StandardScaler(), LinearSVC(C=0.01, max_iter=2000, random_state=0)).fit(features, targets)
    found = fit(features, targets, classes, kind="svm", strength=0.01).probabilities(features)
    assert np.array_equal(found.argmax(axis=1), theirs.predict(features))
    margins = theirs.decision_function(features)
    raw = np.stack([-margins, margins], axis=1) / 2 if classes == 2 else margins
    unscaled = LinearHead(np.eye(classes), np.zeros(classes)).probabilities(raw)
    assert evaluate_probabilities(found, targets)["log_loss"] < evaluate_probabilities(unscaled, targets)["log_loss"]


def test_a_class_without_rows_is_never_chosen() -> None:
    features, targets = digits(4)
    kept = targets != 2
    head = fit(features[kept], targets[kept], 4)
    assert head.bias[2] == ABSENT
    assert head.probabilities(features)[:, 2].max() < 1e-6


def test_constant_features_and_few_iterations_are_no_error() -> None:
    features, targets = digits(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fit(np.hstack([features, np.ones((len(features), 2))]), targets, 3, kind="svm", strength=1e4)
    assert np.isfinite(head.weight).all()


def test_another_kind_is_refused() -> None:
    features, targets = digits(3)
    with pytest.raises(ValueError, match="logistic, svm"):
        fit(features, targets, 3, kind="forest")
