"""Boosting's arithmetic: SAMME for classes (Zhu et al., 2009) and AdaBoost.R2 for numbers (Drucker, 1997).

A round takes row weights and a trained member's mistakes, and gives the member's weight and the next round's row
weights. The SAMME ensemble is `voting.hard` with the rounds' weights (or `voting.soft`), that of R2 is the weighted
median. On neural nets it measured worse than plain seeds, most of all without shrinkage; the gate decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Bools, Floats

PERFECT, CHANCE, RISING = "no mistake is left", "no better than chance", "validation loss rises"


class Round(NamedTuple):
    """What one round of boosting leaves behind."""

    error: float
    """Weighted error of the member."""
    member_weight: float
    """Its weight in the vote; 0: leave it out."""
    row_weights_N: NDArray[np.float64]
    """Sums to one; for the next round's sampling or loss."""
    stop: str | None
    """Why no further round should follow, or nothing."""


def samme_round(row_weights_N: Floats, wrong_N: Bools, *, n_classes: int, learning_rate: float = 0.2) -> Round:
    """One round of SAMME: rows that were wrong gain weight by exp(member weight).

    Args:
        row_weights_N: current weights, any positive scale.
        wrong_N: whether the member got each training row wrong.
        n_classes: C; a member must beat the chance error 1 - 1/C.
        learning_rate: shrinkage of the member's weight; 1 is the published algorithm.
    """
    weights_N = np.asarray(row_weights_N, dtype=np.float64) / np.sum(row_weights_N)
    error = float(weights_N @ wrong_N)
    if error <= 0.0:
        return Round(error, 1.0, weights_N, PERFECT)
    if error >= 1.0 - 1.0 / n_classes - 1e-12:
        return Round(error, 0.0, weights_N, CHANCE)
    member_weight = learning_rate * float(np.log((1.0 - error) / error) + np.log(n_classes - 1.0))
    raised_N = weights_N * np.exp(member_weight * wrong_N)
    return Round(error, member_weight, raised_N / raised_N.sum(), None)


_R2_LOSSES = {"linear": lambda e: e, "square": lambda e: e**2, "exponential": lambda e: 1.0 - np.exp(-e)}


def r2_round(
    row_weights_N: Floats, preds_N: Floats, targets_N: Floats, *, loss: str = "linear", learning_rate: float = 1.0
) -> Round:
    """One round of AdaBoost.R2: rows that were met well lose weight.

    Args:
        row_weights_N: current weights, any positive scale.
        preds_N: the member's predictions on the training rows.
        targets_N: the true values.
        loss: linear, square or exponential, of the error relative to the greatest one.
        learning_rate: shrinkage.
    """
    if loss not in _R2_LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_R2_LOSSES)}; got {loss!r}")
    weights_N = np.asarray(row_weights_N, dtype=np.float64) / np.sum(row_weights_N)
    miss_N = np.abs(np.asarray(preds_N, dtype=np.float64) - targets_N)
    greatest = float(miss_N[weights_N > 0].max())
    if greatest == 0.0:
        return Round(0.0, 1.0, weights_N, PERFECT)
    loss_N = _R2_LOSSES[loss](miss_N / greatest)
    error = float(weights_N @ loss_N)
    if error >= 0.5:
        return Round(error, 0.0, weights_N, CHANCE)
    beta = error / (1.0 - error)
    lowered_N = weights_N * beta ** ((1.0 - loss_N) * learning_rate)
    return Round(error, learning_rate * float(np.log(1.0 / beta)), lowered_N / lowered_N.sum(), None)


def weighted_median(preds_MN: Floats, weights_M: Floats) -> NDArray[np.float64]:
    """Smallest prediction whose members from below hold half of the weight, [N]; R2's vote."""
    weights = np.asarray(weights_M, dtype=np.float64)
    order_MN = np.argsort(preds_MN, axis=0, kind="stable")
    reached_MN = np.cumsum(weights[order_MN], axis=0) >= 0.5 * weights.sum()
    median_M = np.take_along_axis(order_MN, reached_MN.argmax(axis=0)[None], axis=0)
    picked: NDArray[np.float64] = np.take_along_axis(np.asarray(preds_MN, dtype=np.float64), median_M, axis=0)[0]
    return picked


def stop_reason(last: Round, validation_losses: Sequence[float], *, patience: int = 1) -> str | None:
    """Why to stop: the round's own reason, or a validation loss that has not fallen for `patience` rounds."""
    if last.stop:
        return last.stop
    since_best = len(validation_losses) - 1 - int(np.argmin(validation_losses)) if validation_losses else 0
    return RISING if since_best >= patience else None
