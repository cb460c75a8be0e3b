"""How differently members err: pairwise measures, the ambiguity decomposition, and the disagreement-error ratio.

They are reported, not forced: the loss of an ensemble is the mean loss of its members minus their ambiguity, so a
selector that makes it small prices diversity already. See Kuncheva & Whitaker (2003) for the pairwise measures and
Theisen et al. (NeurIPS 2023) for the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.metrics import PROB_FLOOR, row_correct, true_class

PAIRWISE = ("disagreement", "double_fault", "q_statistic", "kappa", "error_correlation")


@dataclass(frozen=True)
class Diversity:
    """Pairwise matrices [K, K] and the scalars that they come down to; an undefined pair is NaN."""

    disagreement: NDArray[np.float64]
    """Share of rows that two members label differently."""
    double_fault: NDArray[np.float64]
    """Share of rows that both get wrong."""
    q_statistic: NDArray[np.float64]
    """Yule's Q of being right: 1 for always together, 0 for independent, negative for taking turns."""
    kappa: NDArray[np.float64]
    """Cohen's kappa of the two labellings: agreement beyond chance."""
    error_correlation: NDArray[np.float64]
    """Pearson correlation of being wrong."""
    error_rates: NDArray[np.float64]
    """Error rate of each member, [K]."""
    disagreement_error_ratio: float
    """Mean disagreement of pairs over mean error rate: below one, a vote has little to correct."""

    def mean(self, measure: str) -> float:
        """Mean of a pairwise measure over the pairs for which it is defined; NaN when there are none."""
        matrix_KK: NDArray[np.float64] = getattr(self, measure)
        values = matrix_KK[np.triu_indices(len(matrix_KK), k=1)]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: means by name, matrices as lists, undefined as null."""
        means = {f"mean_{name}": _plain(self.mean(name)) for name in PAIRWISE}
        matrices = {name: [[_plain(v) for v in row] for row in getattr(self, name).tolist()] for name in PAIRWISE}
        ratio = _plain(self.disagreement_error_ratio)
        return {**means, "disagreement_error_ratio": ratio, "error_rates": self.error_rates.tolist(), **matrices}


def diversity(members: Sequence[Floats] | Floats, labels_N: Labels) -> Diversity:
    """Every measure for K classifiers' probabilities [K, N, C] on labelled rows."""
    predicted_KN = np.stack([probs_NC.argmax(axis=1) for probs_NC in members])
    right_KN = (predicted_KN == labels_N).astype(np.float64)
    n_rows, n_classes = len(labels_N), members[0].shape[1]
    both_right = right_KN @ right_KN.T / n_rows
    right_K = right_KN.mean(axis=1)
    only_first = right_K[:, None] - both_right
    both_wrong = np.maximum(1.0 - both_right - only_first - only_first.T, 0.0)
    agreement = np.stack([(predicted_KN == row).mean(axis=1) for row in predicted_KN])
    counts_KC = np.stack([np.bincount(row, minlength=n_classes) for row in predicted_KN]) / n_rows
    chance = counts_KC @ counts_KC.T
    spread_K = np.sqrt(right_K * (1.0 - right_K))
    with np.errstate(divide="ignore", invalid="ignore"):
        together, apart = both_right * both_wrong, only_first * only_first.T
        q_statistic = (together - apart) / (together + apart)
        kappa = (agreement - chance) / (1.0 - chance)
        correlation = (both_right - np.outer(right_K, right_K)) / np.outer(spread_K, spread_K)
    ratio = _disagreement_error_ratio(1.0 - agreement, 1.0 - right_K)
    return Diversity(1.0 - agreement, both_wrong, q_statistic, kappa, correlation, 1.0 - right_K, ratio)


class Ambiguity(NamedTuple):
    """ensemble = members - ambiguity, exactly."""

    ensemble: float
    members: float
    ambiguity: float


def log_loss_ambiguity(members: Sequence[Floats] | Floats, weights_K: Floats, labels_N: Labels) -> Ambiguity:
    """Log-loss of the weighted mean, weighted mean log-loss of the members, and their difference (never negative)."""
    shares_K = np.asarray(weights_K, dtype=np.float64) / np.sum(weights_K)
    target_KN = np.stack([np.maximum(true_class(p, labels_N).astype(np.float64), PROB_FLOOR) for p in members])
    pooled = float(-np.log(shares_K @ target_KN).mean())
    own = float(-(shares_K @ np.log(target_KN)).mean())
    return Ambiguity(pooled, own, own - pooled)


def squared_error_ambiguity(members: Sequence[Floats] | Floats, weights_K: Floats, targets_N: Labels) -> Ambiguity:
    """The same for regression (Krogh & Vedelsby, 1994): ambiguity is the weighted spread around the pooled value."""
    shares_K = np.asarray(weights_K, dtype=np.float64) / np.sum(weights_K)
    preds_KN = np.stack([np.reshape(p, -1).astype(np.float64) for p in members])
    pooled_N = shares_K @ preds_KN
    spread = float((shares_K @ (preds_KN - pooled_N) ** 2).mean())
    pooled = float(((pooled_N - targets_N) ** 2).mean())
    return Ambiguity(pooled, pooled + spread, spread)


def contested_rows(first_NC: Floats, second_NC: Floats, labels_N: Labels) -> NDArray[np.int64]:
    """Rows that two members label differently, the ones where just one is right first, the surest before the rest."""
    differ = np.flatnonzero(first_NC.argmax(axis=1) != second_NC.argmax(axis=1))
    confidence = (first_NC.max(axis=1) + second_NC.max(axis=1))[differ]
    decided = (row_correct(first_NC, labels_N) | row_correct(second_NC, labels_N))[differ]
    return differ[np.lexsort((-confidence, ~decided))]


def _disagreement_error_ratio(disagreement_KK: NDArray[np.float64], error_K: NDArray[np.float64]) -> float:
    pairs = np.triu_indices(len(error_K), k=1)
    if len(pairs[0]) == 0 or error_K.mean() == 0.0:
        return float("nan")
    return float(disagreement_KK[pairs].mean() / error_K.mean())


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
