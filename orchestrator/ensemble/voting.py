"""Ways to make one prediction out of several: hard, soft (weighted), logarithmic, and the mean for regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats
from orchestrator.ensemble.calibration import softmax
from orchestrator.ensemble.metrics import PROB_FLOOR

TIE_SHARE = 1e-4
"""How much of a hard vote is the mean probability: enough to break ties, too little to overturn a vote."""


def soft(probs_MNC: Floats, weights_M: Floats | None = None) -> NDArray[np.float32]:
    """Weighted mean of the probabilities, [N, C]; of the predictions for regression, [N, 1]."""
    return _weighted_sum(probs_MNC, _normalised(weights_M, len(probs_MNC))).astype(np.float32)


def logarithmic(probs_MNC: Floats, weights_M: Floats | None = None) -> NDArray[np.float32]:
    """Logarithmic pool: the normalised weighted geometric mean of the probabilities, [N, C]."""
    weights = _normalised(weights_M, len(probs_MNC))
    logits_NC = np.zeros(probs_MNC[0].shape)
    for probs_NC, weight in zip(probs_MNC, weights, strict=True):
        logits_NC += weight * np.log(np.maximum(probs_NC, PROB_FLOOR))
    return softmax(logits_NC).astype(np.float32)


def hard(probs_MNC: Floats, weights_M: Floats | None = None) -> NDArray[np.float32]:
    """Shares of the (weighted) votes, [N, C]; a tie goes to the class with the greater mean probability.

    The mean probability enters with a share of `TIE_SHARE`, so that the arg max of what is returned is the winner.
    """
    weights = _normalised(weights_M, len(probs_MNC))
    votes_NC = TIE_SHARE * _weighted_sum(probs_MNC, weights)
    rows_N = np.arange(votes_NC.shape[0])
    for probs_NC, weight in zip(probs_MNC, weights, strict=True):
        votes_NC[rows_N, probs_NC.argmax(axis=1)] += weight
    return (votes_NC / (1.0 + TIE_SHARE)).astype(np.float32)


VOTINGS: dict[str, Callable[[Floats, Floats | None], NDArray[np.float32]]] = {
    "soft": soft,
    "hard": hard,
    "log": logarithmic,
}


def independent_majority_error(n_members: int, error: float) -> float:
    """Error of a majority vote of M independent members, sum over k > M/2 of C(M, k) e^k (1 - e)^(M - k).

    It is what diversity could buy at best; real members share their errors and stay far above it. An even split
    is not counted as an error.

    >>> round(independent_majority_error(3, 0.01), 6)
    0.000298
    """
    if n_members < 1 or not 0.0 <= error <= 1.0:
        raise ValueError(f"needs n_members >= 1 and 0 <= error <= 1; got n_members={n_members}, error={error}")
    from scipy.special import bdtrc

    return float(bdtrc(n_members // 2, n_members, error))


def _normalised(weights_M: Floats | None, n_members: int) -> NDArray[np.float64]:
    weights = np.ones(n_members) if weights_M is None else np.asarray(weights_M, dtype=np.float64)
    if weights.shape != (n_members,) or weights.min() < 0 or weights.sum() <= 0:
        raise ValueError(f"weights must be {n_members} numbers >= 0 with a positive sum; got {weights.tolist()}")
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _weighted_sum(probs_MNC: Floats, weights_M: NDArray[np.float64]) -> NDArray[np.float64]:
    total_NC = np.zeros(probs_MNC[0].shape)
    for probs_NC, weight in zip(probs_MNC, weights_M, strict=True):
        total_NC += weight * probs_NC
    return total_NC
