"""Every score against scikit-learn's, a closed form, or a value worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from trainables.metrics import calibration_error, evaluate_probabilities


def draw(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), rng.integers(0, classes, n)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_classification_scores_are_scikit_learns(classes: int) -> None:
    probabilities, targets = draw(400, classes)
    predicted = probabilities.argmax(axis=1)
    found = evaluate_probabilities(probabilities, targets)
    onehot = np.eye(classes)[targets]
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, predicted))
    normalised = probabilities.astype(np.float64) / probabilities.astype(np.float64).sum(axis=1, keepdims=True)
    assert found["log_loss"] == pytest.approx(sk.log_loss(targets, normalised, labels=range(classes)), rel=1e-6)
    assert found["loss"] == found["log_loss"]
    assert found["brier"] == pytest.approx(((probabilities - onehot) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro", zero_division=0))
    assert ("top5" in found) == (classes >= 10)
    if classes >= 10:
        assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(targets, probabilities, k=5, labels=range(classes)))


def test_scores_of_classes_that_do_not_occur_follow_scikit_learn() -> None:
    targets = np.array([0, 0, 1, 1, 1])
    probabilities = np.eye(5, dtype=np.float32)[[0, 1, 1, 1, 0]]
    found = evaluate_probabilities(probabilities, targets)
    predicted = probabilities.argmax(axis=1)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro"))


def test_a_confident_mistake_costs_a_finite_log_loss() -> None:
    found = evaluate_probabilities(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps))
    assert found["brier"] == pytest.approx(2.0)


def test_regression_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    targets = rng.normal(3, 2, 200)
    values = (targets + rng.normal(size=200)).astype(np.float32)
    found = evaluate_probabilities(values[:, None], targets)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, values))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, values))
    assert found["r2"] == pytest.approx(sk.r2_score(targets, values))
    assert found["loss"] == pytest.approx(found["rmse"] ** 2)


@pytest.mark.parametrize("guess", [2.0, 3.0])
def test_r2_of_a_constant_target_is_scikit_learns(guess: float) -> None:
    targets = np.full(5, 2.0)
    values = np.full(5, guess)
    assert evaluate_probabilities(values[:, None], targets)["r2"] == sk.r2_score(targets, values)


def test_calibration_error_is_the_mean_gap_of_equal_mass_bins() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(size=301)
    correct = rng.uniform(size=301) < confidence**2
    order = np.argsort(confidence)
    bins = np.array_split(order, 15)
    expected = sum(len(b) * abs(confidence[b].mean() - correct[b].mean()) for b in bins) / 301
    assert calibration_error(confidence, correct) == pytest.approx(expected)
    shuffled = rng.permutation(301)
    assert calibration_error(confidence[shuffled], correct[shuffled]) == pytest.approx(expected)


def test_equal_confidences_share_a_bin_whatever_their_order() -> None:
    correct = np.arange(100) < 50
    assert calibration_error(np.full(100, 0.5), correct) == pytest.approx(0.0)
    assert calibration_error(np.full(100, 0.9), correct) == pytest.approx(0.4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="predictions"):
        evaluate_probabilities(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="predictions"):
        evaluate_probabilities(np.zeros((0, 2)), np.zeros(0))
