"""Weights of the logarithmic pool: softmax of a weighted sum of log-probabilities, least log-loss on validation.

The weights need not sum to one: their sum is the inverse of the pooled temperature, so this pool calibrates itself.
It measured the best log-loss of all pools; it needs the full arrays of its candidates, hence few of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.metrics import PROB_FLOOR


class LogPoolResult(NamedTuple):
    """Weights that sum to one, the pooled temperature (1 / their former sum), and the log-loss on the rows given."""

    weights_K: NDArray[np.float64]
    temperature: float
    loss: float


def log_pool_weights(probs_KNC: Floats, labels_N: Labels, *, l2: float, min_weight: float, max_members: int) -> LogPoolResult:
    """Fits, drops small weights, caps the count, and fits again until stable.

    Args:
        probs_KNC: calibrated probabilities of the candidates.
        labels_N: class indices.
        l2: pull toward equal weights 1/K.
        min_weight: share of the sum below which a member goes.
        max_members: at most so many stay.
    """
    logs_KNC = np.log(np.maximum(probs_KNC, PROB_FLOOR))
    kept = np.arange(len(logs_KNC))
    while True:
        raw_K, loss = _fit(logs_KNC[kept], labels_N, l2=l2)
        total = float(raw_K.sum())
        shares_K = raw_K / total if total > 0 else np.full(len(raw_K), 1.0 / len(raw_K))
        order = np.argsort(-shares_K, kind="stable")[:max_members]
        strong = np.sort(order[shares_K[order] >= min(min_weight, float(shares_K.max()))])
        if len(strong) == len(kept):
            break
        kept = kept[strong]
    weights_K = np.zeros(len(logs_KNC))
    weights_K[kept] = shares_K
    return LogPoolResult(weights_K, 1.0 / max(total, 1e-3), loss)


def _fit(logs_KNC: Floats, labels_N: Labels, *, l2: float) -> tuple[NDArray[np.float64], float]:
    from scipy.optimize import minimize

    n_members, n_rows, n_classes = logs_KNC.shape
    flat_KX = logs_KNC.reshape(n_members, -1)
    rows_N = np.arange(n_rows)

    def objective(weights_K: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits_NC = (weights_K.astype(flat_KX.dtype) @ flat_KX).reshape(n_rows, n_classes)
        logits_NC -= logits_NC.max(axis=1, keepdims=True)
        true_N = logits_NC[rows_N, labels_N].astype(np.float64)
        np.exp(logits_NC, out=logits_NC)
        total_N1 = logits_NC.sum(axis=1, keepdims=True)
        loss = float((np.log(total_N1[:, 0].astype(np.float64)) - true_N).mean())
        logits_NC /= total_N1
        logits_NC[rows_N, labels_N] -= 1.0
        gradient_K = (flat_KX @ logits_NC.reshape(-1)).astype(np.float64) / n_rows
        away_K = weights_K - 1.0 / n_members
        return loss + l2 * float(away_K @ away_K), gradient_K + 2.0 * l2 * away_K

    start = np.full(n_members, 1.0 / n_members)
    options = {"maxiter": 200, "ftol": 1e-9, "gtol": 1e-6}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * n_members, options=options)
    away_K = found.x - 1.0 / n_members
    return np.maximum(found.x, 0.0), float(found.fun) - l2 * float(away_K @ away_K)
