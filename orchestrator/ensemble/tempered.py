"""Log-loss of a pool at its own best temperature: what selection makes small where the pool is calibrated after.

The mean of calibrated members is under-confident, the more so the more they differ. Scored without the temperature that
follows, selection stops at few members that are alike; scored with it, it takes those whose mean is right most often.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Ints, Labels
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.metrics import PROB_FLOOR, log_loss, true_class
from orchestrator.ensemble.pool import Pool
from orchestrator.ensemble.voting import soft

SHORTLIST = 8
"""Candidates a step whose loss is computed: those along which the loss falls steepest (one product finds them)."""


def tempered_loss(pool: Pool, weights_M: NDArray[np.float64]) -> float:
    """Log-loss of the weighted mean of a pool's calibrated members at its best temperature."""
    used = np.flatnonzero(weights_M)
    mean_NC = soft((pool.read(int(m)) for m in used), weights_M[used])
    return log_loss(apply_temperature(mean_NC, fit_temperature(mean_NC, pool.labels_N)), pool.labels_N)


def sharpened(pool: Pool, members: Sequence[int], power: float) -> NDArray[np.float32]:
    """Probability of the true class of each calibrated member raised to a power and normalised, [len(members), N]."""
    return np.stack([true_class(apply_temperature(pool.read(m), 1.0 / power), pool.labels_N) for m in members])


class TemperedLogLoss:
    """Objective of `greedy_selection`: mean negative log of softmax(log p / T), p the running mean and T its temperature.

    The temperature is fitted anew after each pick. Once `most` members are in, only they may come again.
    """

    def __init__(self, members: Sequence[Floats], labels_N: Labels, *, most: int) -> None:
        self.members_MX: NDArray[np.float32] = np.stack([np.ravel(member) for member in members])
        self.shape, self.labels_N, self.most = members[0].shape, labels_N, most
        self.sum_NC = np.zeros(self.shape, dtype=np.float32)
        self.picks: list[int] = []
        self.inverse = 1.0

    def errors(self) -> NDArray[np.float64]:
        """Loss with each candidate added; infinite for those that are not worth computing, [M]."""
        tried = self._shortlist() if self.picks else range(len(self.members_MX))
        errors_M = np.full(len(self.members_MX), np.inf)
        scale = np.float32(1.0 / (len(self.picks) + 1))
        for m in tried:
            errors_M[m] = self._loss((self.sum_NC + self._member(m)) * scale)
        return errors_M

    def tie_errors(self, candidates: Ints) -> NDArray[np.float64]:
        """No second criterion: log-loss is the first."""
        return np.zeros(len(candidates))

    def add(self, member: int) -> None:
        """Adds the member's probabilities to the running sum and fits the temperature of the mean."""
        self.picks.append(member)
        self.sum_NC += self._member(member)
        self.inverse = 1.0 / fit_temperature(self.sum_NC / len(self.picks), self.labels_N)

    def _member(self, member: int) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.members_MX[member].reshape(self.shape)
        return found

    def _shortlist(self) -> NDArray[np.int64]:
        """The candidates with the least derivative of the loss toward them."""
        mean_NC = np.maximum(self.sum_NC / len(self.picks), PROB_FLOOR)
        rows_N = np.arange(len(self.labels_N))
        gradient_NC = mean_NC**self.inverse
        gradient_NC /= gradient_NC.sum(axis=1, keepdims=True)
        gradient_NC[rows_N, self.labels_N] -= 1.0
        gradient_NC /= mean_NC
        slopes_M = self.members_MX @ gradient_NC.ravel()
        if len(set(self.picks)) >= self.most:
            others_M = np.ones(len(slopes_M), dtype=bool)
            others_M[self.picks] = False
            slopes_M[others_M] = np.inf
        steepest = np.argsort(slopes_M, kind="stable")[:SHORTLIST]
        return steepest[np.isfinite(slopes_M[steepest])]

    def _loss(self, mean_NC: NDArray[np.float32]) -> float:
        logits_NC = np.log(np.maximum(mean_NC, PROB_FLOOR))
        logits_NC *= np.float32(self.inverse)
        true_N = logits_NC[np.arange(len(self.labels_N)), self.labels_N]
        return float(np.log(np.exp(logits_NC).sum(axis=1)).mean(dtype=np.float64) - true_N.mean(dtype=np.float64))
