"""Scores of predictions under bare names ("accuracy", "log_loss", ...), in numpy alone so that any stage may use them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[Any]

BINS = 15
"""Equal-mass bins of the expected calibration error."""
TOP5_FROM = 10
"""Number of classes from which top-5 says something."""
_FLOOR = float(np.finfo(np.float32).eps)


def evaluate_probabilities(probabilities: Array, targets: Array) -> dict[str, float]:
    """Return every score of probabilities [N, C] against classes [N], or of values [N, 1] against values [N].

    Keys: "loss" (log-loss, or mean squared error), accuracy, log_loss, brier, ece, top5 (C >= 10), balanced_accuracy,
    macro_f1; for regression rmse, mae, r2. Raises ValueError when shapes do not fit.
    """
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    if probabilities.ndim != 2 or targets.ndim != 1 or len(probabilities) != len(targets) or len(targets) == 0:
        raise ValueError(f"metrics: expected predictions [N, C] and targets [N], got {probabilities.shape} and {targets.shape}")
    if probabilities.shape[1] == 1:
        return regression_scores(probabilities[:, 0], targets)
    return classification_scores(probabilities, targets.astype(np.int64))


def classification_scores(probabilities: Array, targets: Array) -> dict[str, float]:
    """Return all classification scores of probabilities [N, C] against classes [N]."""
    probs = probabilities.astype(np.float64)
    predicted = probs.argmax(axis=1)
    negative_log = float(true_class_nll(probs, targets).mean())
    recall, f1 = _recall_and_f1(predicted, targets, probs.shape[1])
    scores = {
        "loss": negative_log,
        "accuracy": float((predicted == targets).mean()),
        "log_loss": negative_log,
        "brier": float(squared_errors(probs, targets).mean()),
        "ece": calibration_error(probs.max(axis=1), predicted == targets),
        "balanced_accuracy": recall,
        "macro_f1": f1,
    }
    if probs.shape[1] >= TOP5_FROM:
        scores["top5"] = top_k(probs, targets, 5)
    return scores


def regression_scores(values: Array, targets: Array) -> dict[str, float]:
    """Return rmse, mae and r2 of values [N] against targets [N] (r2 of a constant target: 1 if exact, else 0)."""
    error = values.astype(np.float64) - targets.astype(np.float64)
    squares = float((error**2).sum())
    spread = float(((targets - targets.mean()) ** 2).sum())
    fallback = 1.0 if squares == 0 else 0.0
    mse = squares / len(error)
    return {
        "loss": mse,
        "rmse": float(np.sqrt(mse)),
        "mae": float(np.abs(error).mean()),
        "r2": 1.0 - squares / spread if spread > 0 else fallback,
    }


def true_class_nll(probabilities: Array, targets: Array) -> Floats:
    """Return -log p(true class) [N], probabilities floored at float32's epsilon."""
    chosen = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    found: Floats = -np.log(np.clip(chosen.astype(np.float64), _FLOOR, 1.0))
    return found


def squared_errors(probabilities: Array, targets: Array) -> Floats:
    """Return the multi-class Brier score of each row [N]: sum over classes of (p - onehot)^2, in [0, 2]."""
    probs = probabilities.astype(np.float64)
    chosen = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
    found: Floats = (probs**2).sum(axis=1) - 2 * chosen + 1
    return found


def top_k(probabilities: Array, targets: Array, k: int) -> float:
    """Return the share of rows whose true class has fewer than k classes strictly above it."""
    chosen = np.take_along_axis(probabilities, targets[:, None], axis=1)
    return float(((probabilities > chosen).sum(axis=1) < k).mean())


def calibration_error(confidence: Array, correct: Array, bins: int = BINS) -> float:
    """Return the expected calibration error over equal-mass bins of confidence [N]; equal confidences share a bin."""
    confidence = confidence.astype(np.float64)
    count = len(confidence)
    ordered = np.sort(confidence)
    edges = ordered[[part[0] for part in np.array_split(np.arange(count), min(bins, count))]][1:]
    gap = np.bincount(np.searchsorted(edges, confidence, side="right"), weights=confidence - correct)
    return float(np.abs(gap).sum() / count)


def _recall_and_f1(predicted: Array, targets: Array, classes: int) -> tuple[float, float]:
    """Return mean recall over the classes that occur, and mean F1 over the classes that occur or are predicted."""
    hits = np.bincount(targets[predicted == targets], minlength=classes)
    truth = np.bincount(targets, minlength=classes)
    claimed = np.bincount(predicted, minlength=classes)
    occurs, involved = truth > 0, truth + claimed > 0
    recall = hits[occurs] / truth[occurs]
    f1 = 2 * hits[involved] / (truth + claimed)[involved]
    return float(recall.mean()), float(f1.mean())
