"""Stacking: a multinomial logistic regression on the members' log-probabilities, strongly regularised.

It won only where every weight had ten validation rows, and it ruins calibration where it has fewer; so only the
automatic choice may take it, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.calibration import softmax
from orchestrator.ensemble.metrics import PROB_FLOOR

ROWS_PER_WEIGHT = 10
ABSENT = -30.0
"""Intercept of a class that no row had: its probability is about 1e-13."""


@dataclass(frozen=True)
class LinearHead:
    """softmax(coefficients @ [log p_1, ..., log p_K] + intercept): coefficients [C, K * C], intercept [C]."""

    coefficients: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]

    def combine(self, probs_KNC: Floats) -> NDArray[np.float32]:
        """Probabilities [N, C] from the members' calibrated probabilities."""
        logits_NC = _features(probs_KNC) @ np.array(self.coefficients).T + np.array(self.intercept)
        return softmax(logits_NC).astype(np.float32)


def enough_rows(n_rows: int, n_members: int, n_classes: int) -> bool:
    """Whether there are ten rows a weight."""
    return n_rows >= ROWS_PER_WEIGHT * n_members * n_classes * n_classes


def fit_stacking(probs_KNC: Floats, labels_N: Labels, *, inverse_l2: float = 0.01) -> LinearHead:
    """Fits the head; raises ValueError below ten rows a weight, where it over-fits.

    Args:
        probs_KNC: calibrated probabilities of the members, best first.
        labels_N: class indices.
        inverse_l2: scikit-learn's C.
    """
    from sklearn.linear_model import LogisticRegression

    n_members, n_rows, n_classes = probs_KNC.shape
    if not enough_rows(n_rows, n_members, n_classes):
        raise ValueError(
            f"stacking {n_members} members of {n_classes} classes needs "
            f"{ROWS_PER_WEIGHT * n_members * n_classes * n_classes} rows; got {n_rows}. Use convex, greedy or log_pool"
        )
    fitted = LogisticRegression(C=inverse_l2, max_iter=1000).fit(_features(probs_KNC), labels_N)
    coefficients = np.zeros((n_classes, n_members * n_classes))
    intercept = np.full(n_classes, ABSENT)
    binary = len(fitted.classes_) == 2
    coefficients[fitted.classes_] = np.concatenate([-fitted.coef_, fitted.coef_]) / 2 if binary else fitted.coef_
    intercept[fitted.classes_] = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2 if binary else fitted.intercept_
    return LinearHead(tuple(map(tuple, coefficients.tolist())), tuple(intercept.tolist()))


def _features(probs_KNC: Floats) -> NDArray[np.float64]:
    logs_KNC = np.log(np.maximum(probs_KNC, PROB_FLOOR)).astype(np.float64)
    features: NDArray[np.float64] = np.moveaxis(logs_KNC, 0, 1).reshape(logs_KNC.shape[1], -1)
    return features
