"""A linear classifier fitted by scikit-learn on features, as the weight and bias of a network's last layer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.metrics import true_class_nll

Floats = NDArray[np.float64]

KINDS = ("logistic", "svm")
ABSENT = -30.0
"""Logit of a class that no training row has."""
_ITERATIONS = 2000
_TEMPERATURES = np.geomspace(0.1, 50.0, 60)


@dataclass(frozen=True)
class LinearHead:
    """Logits = features @ weight.T + bias, of which a softmax gives probabilities."""

    weight: Floats
    """[C, F]"""
    bias: Floats
    """[C]"""

    def probabilities(self, features: Floats) -> Floats:
        """Return [N, C] from features [N, F]."""
        logits = features @ self.weight.T + self.bias
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Floats = exponents / exponents.sum(axis=1, keepdims=True)
        return found

    def scaled(self, factor: float) -> LinearHead:
        """Return the head with all logits multiplied."""
        return LinearHead(self.weight * factor, self.bias * factor)


def fit_head(
    features: Floats, targets: NDArray[np.int64], *, classes: int, kind: str, strength: float, balanced: bool, seed: int
) -> LinearHead:
    """Fit a "logistic" regression or linear "svm" of regularisation C = `strength` on features [N, F] and classes [N].

    Features are standardised for the fit and the standardisation is folded into the head. Margins of an SVM become logits by
    one factor, chosen by the log-loss of a fifth of the rows held out of a first fit.
    """
    options: dict[str, Any] = {"kind": kind, "strength": strength, "balanced": balanced, "seed": seed, "classes": classes}
    head = _fit(features, targets, **options)
    if kind == "logistic":
        return head
    held = np.random.default_rng(seed).permutation(len(targets)) % 5 == 0
    if len(np.unique(targets[~held])) < 2:
        return head
    trial = _fit(features[~held], targets[~held], **options)
    costs = [float(true_class_nll(trial.scaled(t).probabilities(features[held]), targets[held]).mean()) for t in _TEMPERATURES]
    return head.scaled(float(_TEMPERATURES[int(np.argmin(costs))]))


def _fit(features: Floats, targets: NDArray[np.int64], *, classes: int, **options: Any) -> LinearHead:
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    estimator = _estimator(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that used all its iterations is judged by its score like any other
        estimator.fit((features - mean) / spread, targets)
    coefficients, intercepts = np.asarray(estimator.coef_), np.asarray(estimator.intercept_)
    if len(coefficients) == 1:  # two classes: one margin, half of it each way
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, ABSENT)
    weight[estimator.classes_] = coefficients / spread
    bias[estimator.classes_] = intercepts - (coefficients / spread) @ mean
    return LinearHead(weight, bias)


def _estimator(*, kind: str, strength: float, balanced: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    weights = "balanced" if balanced else None
    if kind == "logistic":
        return LogisticRegression(C=strength, class_weight=weights, max_iter=_ITERATIONS)
    if kind == "svm":
        return LinearSVC(C=strength, class_weight=weights, max_iter=_ITERATIONS, random_state=seed)
    raise ValueError(f"head: got {kind!r}, allowed: {', '.join(KINDS)}")
