"""What selection needs to know of each member, gathered in one pass: temperature, true-class probability, scores.

Log-loss methods need only the matrix of true-class probabilities [M, N], C times less than the bank itself. One
temperature a member comes first: trials differ in temperature, and without it log-loss selection takes the calibrated
members instead of the accurate ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Labels, Members
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.metrics import PROB_FLOOR, REGRESSION, error_of, true_class

TEMPERATURE_ROWS = 2000
"""Rows that a member's temperature is fitted on: one number needs no more, and it is the slowest part."""


@dataclass(frozen=True)
class Pool:
    """M members on N rows with what was measured of each."""

    members: Members
    labels_N: Labels
    metric: str
    """The metric that the user judges by."""
    temperatures_M: NDArray[np.float64]
    target_MN: NDArray[np.float32]
    """Calibrated probability of the true class; the prediction itself for regression."""
    fit_errors_M: NDArray[np.float64]
    """Calibrated log-loss of each member; mean squared error for regression."""
    metric_errors_M: NDArray[np.float64]
    """The user's metric as an error, of each calibrated member."""

    @property
    def regression(self) -> bool:
        """Whether the members predict a number instead of a class."""
        return self.metric in REGRESSION

    @property
    def single(self) -> int:
        """The best member by the user's metric; log-loss (squared error) breaks ties."""
        return int(np.lexsort((self.fit_errors_M, self.metric_errors_M))[0])

    def best(self, count: int) -> list[int]:
        """The members with the least calibrated log-loss (squared error), best first."""
        return [int(m) for m in np.argsort(self.fit_errors_M, kind="stable")[:count]]

    def read(self, member: int) -> NDArray[np.float32]:
        """A member's calibrated probabilities [N, C]."""
        return _calibrated(self.members.read(member), self.temperatures_M[member], regression=self.regression)

    def take(self, members: list[int]) -> Pool:
        """The pool of some members, in the order given."""
        return Pool(
            self.members.take_members(members),
            self.labels_N,
            self.metric,
            self.temperatures_M[members],
            self.target_MN[members],
            self.fit_errors_M[members],
            self.metric_errors_M[members],
        )


def scan(members: Members, labels_N: Labels, *, metric: str, calibrate: bool, seed: int) -> Pool:
    """Reads every member once and measures it; memory stays at one member plus the matrix [M, N]."""
    regression = metric in REGRESSION
    n_members, n_rows = len(members), len(labels_N)
    fit_rows = _fit_rows(n_rows, seed)
    temperatures_M = np.ones(n_members)
    target_MN = np.empty((n_members, n_rows), dtype=np.float32)
    metric_errors_M = np.empty(n_members)
    for m in range(n_members):
        raw_NC = members.read(m)
        if calibrate and not regression:
            temperatures_M[m] = fit_temperature(raw_NC[fit_rows], labels_N[fit_rows])
        values_NC = _calibrated(raw_NC, temperatures_M[m], regression=regression)
        target_MN[m] = values_NC[:, 0] if regression else true_class(values_NC, labels_N)
        metric_errors_M[m] = error_of(metric, values_NC, labels_N)
    fit_errors_M = _fit_errors(target_MN, labels_N, regression=regression)
    return Pool(members, labels_N, metric, temperatures_M, target_MN, fit_errors_M, metric_errors_M)


def _calibrated(raw_NC: NDArray[np.float32], temperature: float, *, regression: bool) -> NDArray[np.float32]:
    return raw_NC if regression else apply_temperature(raw_NC, temperature)


def _fit_rows(n_rows: int, seed: int) -> NDArray[np.int64]:
    if n_rows <= TEMPERATURE_ROWS:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng([seed, 1]).choice(n_rows, TEMPERATURE_ROWS, replace=False))


def _fit_errors(target_MN: NDArray[np.float32], labels_N: Labels, *, regression: bool) -> NDArray[np.float64]:
    if regression:
        return np.array([np.mean((row.astype(np.float64) - labels_N) ** 2) for row in target_MN])
    return np.array([-np.log(np.maximum(row, PROB_FLOOR)).mean(dtype=np.float64) for row in target_MN])
