"""Convex pool weights: the least log-loss (or squared error) on the simplex plus a little L2 toward uniform.

Both objectives are convex on the simplex, so the Frank-Wolfe gap  w'g - min_j g_j  (g the gradient at w) bounds how far
the loss can lie above the optimum: the answer carries its own certificate, which no greedy or evolutionary search has.
A diversity weight d keeps it convex:  (1 + d) * loss(w) - d * sum_m w_m loss_m.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.metrics import PROB_FLOOR

Objective = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Value and gradient [M] at weights [M] on the simplex."""


class ConvexResult(NamedTuple):
    """Weights on the simplex, the objective there, and the certified bound on its distance from the optimum."""

    weights_M: NDArray[np.float64]
    value: float
    gap: float


def log_loss_objective(target_MN: Floats, *, l2: float = 0.0, diversity: float = 0.0) -> Objective:
    """Mean negative log of the pooled true-class probability, plus l2 * |w - 1/M|^2, minus d times the ambiguity."""
    target = np.maximum(target_MN, PROB_FLOOR).astype(np.float64)
    own_M = -np.log(target).mean(axis=1) if diversity > 0 else np.zeros(len(target))
    n_members, n_rows = target.shape

    def objective(weights_M: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mix_N = weights_M @ target
        loss = -float(np.log(mix_N).mean())
        gradient_M = -(target @ (1.0 / mix_N)) / n_rows
        from_uniform_M = weights_M - 1.0 / n_members
        value = (1.0 + diversity) * loss - diversity * float(weights_M @ own_M) + l2 * float(from_uniform_M @ from_uniform_M)
        return value, (1.0 + diversity) * gradient_M - diversity * own_M + 2.0 * l2 * from_uniform_M

    return objective


def squared_error_objective(preds_MN: Floats, targets_N: Labels, *, l2: float = 0.0, diversity: float = 0.0) -> Objective:
    """Mean squared error of the weighted mean in units of the best member's own, with the same two extra terms."""
    residual_MN = preds_MN.astype(np.float64) - targets_N
    own_M = (residual_MN**2).mean(axis=1)
    scale = max(float(own_M.min()), float(np.finfo(np.float64).tiny))
    n_members, n_rows = residual_MN.shape

    def objective(weights_M: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        error_N = weights_M @ residual_MN
        loss = float(error_N @ error_N) / n_rows / scale
        gradient_M = 2.0 * (residual_MN @ error_N) / n_rows / scale
        from_uniform_M = weights_M - 1.0 / n_members
        ambiguity = diversity * float(weights_M @ own_M) / scale
        value = (1.0 + diversity) * loss - ambiguity + l2 * float(from_uniform_M @ from_uniform_M)
        return value, (1.0 + diversity) * gradient_M - diversity * own_M / scale + 2.0 * l2 * from_uniform_M

    return objective


def minimise_on_simplex(objective: Objective, n_members: int, *, max_iterations: int = 500) -> ConvexResult:
    """L-BFGS-B over v >= 0 with w = v / sum(v); one quadratic term fixes the free scale of v.

    Dividing by the sum keeps the feasible set exact for every objective; the certificate is taken at the end, on the
    simplex itself, so it does not rest on the optimiser's own idea of convergence.
    """
    from scipy.optimize import minimize

    def scaled(v: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = max(float(v.sum()), 1e-12)
        value, gradient = objective(v / total)
        return value + 0.5 * (total - 1.0) ** 2, (gradient - gradient @ v / total) / total + (total - 1.0)

    start = np.full(n_members, 1.0 / n_members)
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 1e-13, "gtol": 1e-6, "maxcor": 20}
    found = minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * n_members, options=options)
    weights_M = np.maximum(found.x, 0.0)
    weights_M = weights_M / weights_M.sum()
    value, gradient_M = objective(weights_M)
    return ConvexResult(weights_M, value, float(weights_M @ gradient_M - gradient_M.min()))


def sparse_on_simplex(
    objective_of: Callable[[NDArray[np.int64]], Objective], *, n_members: int, min_weight: float, max_members: int
) -> ConvexResult:
    """Optimum, then small weights dropped and the count capped, then the optimum over those kept, until stable.

    Args:
        objective_of: makes the objective of some members; L2 is then toward uniform over those.
        min_weight: members below it go.
        max_members: at most so many stay.
    """
    kept = np.arange(n_members)
    while True:
        result = minimise_on_simplex(objective_of(kept), len(kept))
        order = np.argsort(-result.weights_M, kind="stable")[:max_members]
        strong = np.sort(order[result.weights_M[order] >= min(min_weight, float(result.weights_M.max()))])
        if len(strong) == len(kept):
            break
        kept = kept[strong]
    weights_M = np.zeros(n_members)
    weights_M[kept] = result.weights_M
    return ConvexResult(weights_M, result.value, result.gap)
