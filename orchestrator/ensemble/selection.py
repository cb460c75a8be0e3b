"""Selectors: from a measured pool to weights over its members, one literal table of choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Labels
from orchestrator.ensemble.convex import ConvexResult, log_loss_objective, sparse_on_simplex, squared_error_objective
from orchestrator.ensemble.convex import Objective as SimplexObjective
from orchestrator.ensemble.crossfit import fold_of_rows, usable_folds
from orchestrator.ensemble.greedy import (
    Accuracy,
    AnyError,
    GreedyResult,
    Objective,
    TrueClassLogLoss,
    bagged_greedy,
    greedy_selection,
)
from orchestrator.ensemble.log_pool import log_pool_weights
from orchestrator.ensemble.metrics import PROB_FLOOR, error_of
from orchestrator.ensemble.pool import Pool
from orchestrator.ensemble.spec import EnsembleSpec
from orchestrator.ensemble.stacking import LinearHead, fit_stacking
from orchestrator.ensemble.tempered import TemperedLogLoss, sharpened, tempered_loss

LOG_POOL_CANDIDATES = 20
STACKED = 10
GREEDY_ARRAYS = 50
"""Members whose full arrays greedy looks at, when it needs them and they do not all fit in memory."""
ARRAYS_BYTES = 256 << 20
SHARPNESS, WORTHWHILE_NATS = (2.0, 4.0, 8.0), 1e-4
"""Powers to which convex also takes the members' probabilities, and what each must bring for the next to be tried."""
SHARPENED = 25
"""Members that are looked at sharpened."""
L2_GRID, L2_FOLDS, L2_CANDIDATES = (0.01, 0.03, 0.1, 0.5), 5, 50
"""Pulls toward uniform weights that convex compares, on how many folds and of how many members."""


@dataclass(frozen=True)
class Selection:
    """Weights over the pool's members (zero: not chosen) and what the method says of them."""

    weights_M: NDArray[np.float64]
    trajectory: tuple[float, ...] = ()
    gap: float | None = None
    temperature: float | None = None
    """The pooled temperature where the method fits it itself."""
    head: LinearHead | None = None


Selector = Callable[[Pool, EnsembleSpec, int], Selection]


def convex(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:
    """Simplex weights of least log-loss (squared error) with L2 toward uniform, sparse, with a certified gap.

    The mean of calibrated members is under-confident, which a temperature mends after. So the members are also weighed
    sharpened, more and more while the pool's loss at its own temperature falls; the gap is that of the weights taken.
    """
    candidates = pool.best(spec.prefilter)
    spec = replace(spec, l2=_cross_validated_l2(pool, spec, seed))
    found = _convex(pool, spec, candidates, pool.target_MN[candidates])
    if pool.regression or not spec.calibrate or spec.voting != "soft":
        return found
    least, candidates = tempered_loss(pool, found.weights_M), candidates[:SHARPENED]
    for sharpness in SHARPNESS:
        tried = _convex(pool, spec, candidates, sharpened(pool, candidates, sharpness))
        loss = tempered_loss(pool, tried.weights_M)
        if loss > least - WORTHWHILE_NATS:
            break
        found, least = tried, loss
    return found


def _convex(pool: Pool, spec: EnsembleSpec, candidates: list[int], target_MN: NDArray[np.float32]) -> Selection:
    result = _simplex_weights(spec, target_MN, pool.labels_N, regression=pool.regression)
    return Selection(_spread(result.weights_M, candidates, pool), gap=result.gap)


def _simplex_weights(spec: EnsembleSpec, target_MN: NDArray[np.float32], labels_N: Labels, *, regression: bool) -> ConvexResult:
    l2 = spec.shrinkage(len(labels_N), len(target_MN))

    def objective_of(kept: NDArray[np.int64]) -> SimplexObjective:
        if regression:
            return squared_error_objective(target_MN[kept], labels_N, l2=l2, diversity=spec.diversity)
        return log_loss_objective(target_MN[kept], l2=l2, diversity=spec.diversity)

    return sparse_on_simplex(objective_of, n_members=len(target_MN), min_weight=spec.min_weight, max_members=spec.max_members)


def _cross_validated_l2(pool: Pool, spec: EnsembleSpec, seed: int) -> float:
    """The strongest pull toward uniform that loses no more than chance on rows that did not choose the weights.

    Pools differ: where one member is far ahead a strong pull costs more than choosing does, among many alike the reverse.
    Within one standard error of the best the stronger wins (Breiman et al. 1984). What the spec says where it says so, or where
    there are fewer than five rows a member.
    """
    n_rows, count = len(pool.labels_N), min(len(pool.members), spec.prefilter)
    if spec.l2 is not None or count == 1 or n_rows < 5 * count or not usable_folds(n_rows, L2_FOLDS):
        return spec.shrinkage(n_rows, count)
    target_MN, fold_N = pool.target_MN[pool.best(L2_CANDIDATES)], fold_of_rows(pool.labels_N, L2_FOLDS, seed=seed)
    losses_GN = np.zeros((len(L2_GRID), n_rows))
    for fold in range(L2_FOLDS):
        fitted, held = fold_N != fold, fold_N == fold
        fitted_MN, labels_N = target_MN[:, fitted], pool.labels_N[fitted]
        for place, l2 in enumerate(L2_GRID):
            weights_M = _simplex_weights(replace(spec, l2=l2), fitted_MN, labels_N, regression=pool.regression).weights_M
            losses_GN[place, held] = _losses(weights_M @ target_MN[:, held], pool.labels_N[held], regression=pool.regression)
    worse_GN = losses_GN - losses_GN[losses_GN.mean(axis=1).argmin()]
    within = worse_GN.mean(axis=1) <= worse_GN.std(axis=1) / n_rows**0.5
    return L2_GRID[int(np.flatnonzero(within).max())]


def _losses(pooled_N: NDArray[np.float64], labels_N: Labels, *, regression: bool) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (pooled_N - labels_N) ** 2 if regression else -np.log(np.maximum(pooled_N, PROB_FLOOR))
    return found


def greedy(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:
    """Forward selection with replacement by `spec.criterion`; bagged when `spec.bags` says so.

    Log-loss is that of the pool at its own temperature where one will be fitted; else weights equal AutoGluon's.
    """
    tempered = spec.calibrate and spec.criterion == "log_loss" and spec.voting == "soft"
    candidates = pool.best(spec.prefilter)
    arrays: list[NDArray[np.float32]] = []
    if tempered or spec.criterion != "log_loss":
        size = 4 * pool.target_MN.shape[1] * pool.read(candidates[0]).shape[1]
        candidates = candidates[: max(GREEDY_ARRAYS, ARRAYS_BYTES // size)]
        arrays = [pool.read(m) for m in candidates]

    def objective_of(kept: NDArray[np.int64]) -> Objective:
        members = [arrays[m] for m in kept] if arrays else []
        if tempered:
            return TemperedLogLoss(members, pool.labels_N, most=spec.max_members)
        if spec.criterion == "log_loss":
            return TrueClassLogLoss(pool.target_MN[candidates][kept])
        if spec.criterion == "accuracy":
            return Accuracy(members, pool.labels_N)
        return AnyError(members, pool.labels_N, lambda probs, labels: error_of(spec.criterion, probs, labels))

    result = _run_greedy(objective_of, len(candidates), spec, seed)
    return Selection(_capped(_spread(result.weights_M, candidates, pool), spec.max_members), result.trajectory)


def _run_greedy(
    objective_of: Callable[[NDArray[np.int64]], Objective], count: int, spec: EnsembleSpec, seed: int
) -> GreedyResult:
    if spec.bags:
        return bagged_greedy(
            objective_of,
            n_members=count,
            bags=spec.bags,
            iterations=spec.iterations,
            seed=seed,
            diversity=spec.diversity,
        )
    return greedy_selection(
        objective_of(np.arange(count)),
        n_members=count,
        iterations=spec.iterations,
        seed=seed,
        diversity=spec.diversity,
    )


def log_pool(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:  # noqa: ARG001
    """Logarithmic pool of the best twenty, its own temperature included."""
    candidates = pool.best(min(LOG_POOL_CANDIDATES, spec.prefilter))
    probs_KNC = np.stack([pool.read(m) for m in candidates])
    l2 = 0.01 * spec.shrinkage(len(pool.labels_N), len(candidates))
    result = log_pool_weights(probs_KNC, pool.labels_N, l2=l2, min_weight=spec.min_weight, max_members=spec.max_members)
    return Selection(_spread(result.weights_K, candidates, pool), temperature=result.temperature)


def topk(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:  # noqa: ARG001
    """Equal weights for the best by calibrated log-loss."""
    chosen = pool.best(spec.max_members)
    return Selection(_spread(np.full(len(chosen), 1.0 / len(chosen)), chosen, pool))


def single(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:  # noqa: ARG001
    """The best member by the user's metric."""
    return Selection(_spread(np.ones(1), [pool.single], pool))


def stack_lr(pool: Pool, spec: EnsembleSpec, seed: int) -> Selection:  # noqa: ARG001
    """Logistic regression on the log-probabilities of the best ten; only the automatic choice may take it."""
    chosen = sorted(pool.best(min(STACKED, spec.max_members)))
    head = fit_stacking(np.stack([pool.read(m) for m in chosen]), pool.labels_N)
    return Selection(_spread(np.full(len(chosen), 1.0 / len(chosen)), chosen, pool), temperature=1.0, head=head)


SELECTORS: dict[str, Selector] = {
    "convex": convex,
    "greedy": greedy,
    "log_pool": log_pool,
    "topk": topk,
    "single": single,
    "stack_lr": stack_lr,
}


def _spread(weights_K: NDArray[np.float64], chosen: list[int], pool: Pool) -> NDArray[np.float64]:
    """Weights of some members, laid out over the whole pool."""
    weights_M = np.zeros(len(pool.members))
    weights_M[chosen] = weights_K
    return weights_M


def _capped(weights_M: NDArray[np.float64], max_members: int) -> NDArray[np.float64]:
    """The heaviest members only, weights summing to one again."""
    light = np.argsort(-weights_M, kind="stable")[max_members:]
    kept_M = weights_M.copy()
    kept_M[light] = 0.0
    kept_M /= kept_M.sum()
    return kept_M
