"""What a new member is worth to the ensemble of those before it: the objective of a search for an ensemble.

A searcher that is told a trial's own score looks for the best single model. Told how much the ensemble loses with the trial in
it, it looks for what the ensemble lacks (DivBO and NES ask a searcher for that; here the measure is the ensemble's own loss).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.greedy import TrueClassLogLoss, greedy_selection

SHARE = 0.5
"""Weight of the ensemble's gain against the trial's own loss."""
ITERATIONS = 10
_EPS = 1e-12


class EnsembleGain:
    """Validation predictions of the members so far, each at its own temperature, as their true-class rows [M, N]."""

    def __init__(self, labels_N: Labels, *, share: float = SHARE) -> None:
        """Start without members; `share` 0 is a trial's own log-loss, 1 the ensemble's with the trial in it."""
        if not 0 <= share <= 1:
            raise ValueError(f"share: got {share}, allowed: 0 to 1")
        self.labels_N, self.share = labels_N, share
        self._members: dict[str, NDArray[np.float64]] = {}

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def add(self, member_id: str, probs_NC: Floats) -> None:
        """Take a member in; a known one stays as it is."""
        if member_id not in self._members:
            self._members[member_id] = self._true_class(probs_NC)

    def loss(self, probs_NC: Floats) -> float:
        """Return (1 - share) * the log-loss of the predictions + share * that of the ensemble they join with the best weight.

        The ensemble is the greedy choice from the members so far; both are measured on the validation rows, at each
        prediction's own temperature. Without members it is the predictions' own log-loss.
        """
        new_N = self._true_class(probs_NC)
        own = -float(np.log(np.maximum(new_N, _EPS)).mean())
        if not self._members:
            return own
        target_MN = np.stack(list(self._members.values()))
        chosen = greedy_selection(TrueClassLogLoss(target_MN), n_members=len(target_MN), iterations=ITERATIONS)
        return (1 - self.share) * own + self.share * joined_loss(chosen.weights_M @ target_MN, new_N)

    def _true_class(self, probs_NC: Floats) -> NDArray[np.float64]:
        tempered = apply_temperature(probs_NC, fit_temperature(probs_NC, self.labels_N))
        rows: NDArray[np.float64] = tempered[np.arange(len(self.labels_N)), self.labels_N].astype(np.float64)
        return rows


def joined_loss(ensemble_N: NDArray[np.float64], new_N: NDArray[np.float64]) -> float:
    """Return the least mean of -log((1 - w) * ensemble + w * new) over w in [0, 1], for true-class probabilities [N]."""

    def loss(weight: float) -> float:
        return -float(np.log(np.maximum((1 - weight) * ensemble_N + weight * new_N, _EPS)).mean())

    inner = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-4})
    return min(float(inner.fun), loss(0.0), loss(1.0))  # convex in w: the bounded search never tries the ends
