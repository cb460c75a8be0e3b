"""Scores of predictions as pure functions of (predictions [N, C], labels [N]), and the table of their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Bools, Floats, Ints, Labels

PROB_FLOOR = 2.0**-24
"""Smallest positive float16: a probability that the float16 bank rounded to zero reads as this."""


def true_class(probs_NC: Floats, labels_N: Labels) -> Floats:
    """Probability that each row gave to its own label, [N]."""
    picked: Floats = probs_NC[np.arange(len(labels_N)), labels_N]
    return picked


def row_log_loss(probs_NC: Floats, labels_N: Labels) -> NDArray[np.float64]:
    """Negative log-likelihood of each row in nats, [N]."""
    clipped = np.clip(true_class(probs_NC, labels_N).astype(np.float64), PROB_FLOOR, 1.0)
    losses: NDArray[np.float64] = -np.log(clipped)
    return losses


def row_correct(probs_NC: Floats, labels_N: Labels) -> Bools:
    """Whether the most probable class is the label; the lowest class wins an exact tie. [N]."""
    correct: Bools = probs_NC.argmax(axis=1) == labels_N
    return correct


def row_brier(probs_NC: Floats, labels_N: Labels) -> NDArray[np.float64]:
    """Squared distance between each row and its one-hot label, between 0 and 2. [N]."""
    probs = probs_NC.astype(np.float64)
    squares: NDArray[np.float64] = (probs**2).sum(axis=1) - 2.0 * true_class(probs, labels_N) + 1.0
    return squares


def accuracy(probs_NC: Floats, labels_N: Labels) -> float:
    """Share of rows whose most probable class is the label."""
    return float(row_correct(probs_NC, labels_N).mean())


def log_loss(probs_NC: Floats, labels_N: Labels) -> float:
    """Mean negative log-likelihood in nats."""
    return float(row_log_loss(probs_NC, labels_N).mean())


def brier(probs_NC: Floats, labels_N: Labels) -> float:
    """Mean squared distance to the one-hot label, summed over classes (0 is perfect, 2 the worst)."""
    return float(row_brier(probs_NC, labels_N).mean())


def top_k(probs_NC: Floats, labels_N: Labels, *, k: int = 5) -> float:
    """Share of rows with fewer than k classes above the label's probability."""
    above = (probs_NC > true_class(probs_NC, labels_N)[:, None]).sum(axis=1)
    return float((above < k).mean())


def ece(probs_NC: Floats, labels_N: Labels, *, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass (equal width leaves most bins empty)."""
    confidence_N = probs_NC.max(axis=1).astype(np.float64)
    order_N = np.argsort(confidence_N, kind="stable")
    gap_N = row_correct(probs_NC, labels_N)[order_N] - confidence_N[order_N]
    return float(sum(abs(part.sum()) for part in np.array_split(gap_N, bins)) / len(labels_N))


def confusion(predicted_N: Ints, labels_N: Labels, n_classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: true class in rows, predicted class in columns."""
    flat = np.bincount(labels_N * n_classes + predicted_N, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes)


def balanced_accuracy(probs_NC: Floats, labels_N: Labels) -> float:
    """Mean recall over the classes that occur among the labels."""
    counts_CC = confusion(probs_NC.argmax(axis=1), labels_N, probs_NC.shape[1])
    support_C = counts_CC.sum(axis=1)
    present = support_C > 0
    return float((counts_CC.diagonal()[present] / support_C[present]).mean())


def macro_f1(probs_NC: Floats, labels_N: Labels) -> float:
    """Mean F1 over the classes that occur among the labels or the predictions."""
    counts_CC = confusion(probs_NC.argmax(axis=1), labels_N, probs_NC.shape[1])
    total_C = counts_CC.sum(axis=0) + counts_CC.sum(axis=1)
    present = total_C > 0
    return float((2.0 * counts_CC.diagonal()[present] / total_C[present]).mean())


def rmse(preds_N1: Floats, targets_N: Labels) -> float:
    """Root of the mean squared error."""
    return math.sqrt(float(np.mean(row_error(preds_N1, targets_N) ** 2)))


def mae(preds_N1: Floats, targets_N: Labels) -> float:
    """Mean absolute error."""
    return float(np.abs(row_error(preds_N1, targets_N)).mean())


def r2(preds_N1: Floats, targets_N: Labels) -> float:
    """Share of the targets' variance that is explained; 0 for the constant mean."""
    spread = float(np.sum((targets_N - np.mean(targets_N)) ** 2))
    residual = float(np.sum(row_error(preds_N1, targets_N) ** 2))
    return 1.0 - residual / spread if spread > 0 else float(residual == 0.0)


def row_error(preds_N1: Floats, targets_N: Labels) -> NDArray[np.float64]:
    """Prediction minus target, [N]."""
    errors: NDArray[np.float64] = np.reshape(preds_N1, -1).astype(np.float64) - targets_N
    return errors


def wilson_interval(correct: int, n: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a proportion; unlike the normal one it never leaves [0, 1] nor collapses at 0 or 1."""
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"wilson_interval needs 0 <= correct <= n and n > 0; got correct={correct}, n={n}")
    share, shrink = correct / n, 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


class Metric(NamedTuple):
    """A score and its direction."""

    function: Callable[[Floats, Labels], float]
    greater_is_better: bool


CLASSIFICATION: dict[str, Metric] = {
    "accuracy": Metric(accuracy, True),
    "log_loss": Metric(log_loss, False),
    "brier": Metric(brier, False),
    "ece": Metric(ece, False),
    "balanced_accuracy": Metric(balanced_accuracy, True),
    "macro_f1": Metric(macro_f1, True),
    "top5": Metric(top_k, True),
}
REGRESSION: dict[str, Metric] = {
    "rmse": Metric(rmse, False),
    "mae": Metric(mae, False),
    "r2": Metric(r2, True),
}
METRICS: dict[str, Metric] = CLASSIFICATION | REGRESSION


def error_of(metric: str, probs_NC: Floats, labels_N: Labels) -> float:
    """A metric as an error to make small: 1 - score where greater is better, the metric itself otherwise."""
    function, greater_is_better = METRICS[metric]
    value = function(probs_NC, labels_N)
    return 1.0 - value if greater_is_better else value
