"""Ways to make one prediction out of several: hard, soft (weighted), logarithmic, and the mean for regression.

Members [N, C] come as an array [M, N, C] or as any iterable; with weights given, one is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats
from orchestrator.ensemble.calibration import softmax
from orchestrator.ensemble.metrics import PROB_FLOOR

TIE_SHARE = 1e-4
"""How much of a hard vote is the mean probability: enough to break ties, too little to overturn a vote."""


def soft(probs: Iterable[Floats], weights: Floats | None = None) -> NDArray[np.float32]:
    """Weighted mean of the probabilities, [N, C]; of the predictions for regression, [N, 1]."""
    return _sum((weight * probs_NC for probs_NC, weight in _weighted(probs, weights))).astype(np.float32)


def logarithmic(probs: Iterable[Floats], weights: Floats | None = None) -> NDArray[np.float32]:
    """Logarithmic pool: the normalised weighted geometric mean of the probabilities, [N, C]."""
    logits_NC = _sum(weight * np.log(np.maximum(probs_NC, PROB_FLOOR)) for probs_NC, weight in _weighted(probs, weights))
    return softmax(logits_NC).astype(np.float32)


def hard(probs: Iterable[Floats], weights: Floats | None = None) -> NDArray[np.float32]:
    """Shares of the (weighted) votes, [N, C]; a tie goes to the class with the greater mean probability.

    The mean probability enters with a share of `TIE_SHARE`, so that the arg max of what is returned is the winner.
    """
    votes_NC = _sum(weight * _ballot(probs_NC) for probs_NC, weight in _weighted(probs, weights))
    return (votes_NC / (1.0 + TIE_SHARE)).astype(np.float32)


def _ballot(probs_NC: Floats) -> NDArray[np.float64]:
    ballot_NC = TIE_SHARE * probs_NC.astype(np.float64)
    ballot_NC[np.arange(len(probs_NC)), probs_NC.argmax(axis=1)] += 1.0
    return ballot_NC


VOTINGS: dict[str, Callable[[Iterable[Floats], Floats | None], NDArray[np.float32]]] = {
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


def _weighted(probs: Iterable[Floats], weights: Floats | None) -> Iterator[tuple[Floats, float]]:
    """Members with their share of the weights; with weights given, members are taken one at a time."""
    if weights is None:
        probs = list(probs)
        weights = np.ones(len(probs))
    if weights.ndim != 1 or len(weights) == 0 or weights.min() < 0 or weights.sum() <= 0:
        raise ValueError(f"weights must be numbers >= 0 with a positive sum; got {weights.tolist()}")
    return zip(probs, (weights / weights.sum()).tolist(), strict=True)


def _sum(terms_NC: Iterable[Floats]) -> NDArray[np.float64]:
    iterator = iter(terms_NC)
    total_NC = next(iterator).astype(np.float64)
    for term_NC in iterator:
        total_NC += term_NC
    return total_NC
