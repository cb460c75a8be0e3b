"""Cross-fitting: every row predicted by a procedure that was fitted on the other rows only.

Choosing members, weights and temperatures on a set flatters the choice on that set; scores of these predictions do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.ensemble import CrossFit, Ensemble
from orchestrator.ensemble.gate import paired_difference
from orchestrator.ensemble.metrics import CLASSIFICATION, METRICS, REGRESSION, error_of
from orchestrator.ensemble.pool import Pool, scan

Procedure = Callable[[Pool], Ensemble]
"""From a measured pool to an ensemble; all that it fits, it fits on the pool's rows."""
MIN_ROWS_PER_FOLD = 2


def usable_folds(n_rows: int, folds: int) -> int:
    """The number of folds, or 0 where a fold would have fewer than two rows."""
    return folds if n_rows >= MIN_ROWS_PER_FOLD * folds else 0


def fold_of_rows(labels_N: NDArray[np.generic], folds: int, *, seed: int) -> NDArray[np.int64]:
    """Fold of each row [N]: rows in random order, then dealt out along the sorted labels, which stratifies them."""
    shuffled = np.random.default_rng([seed, 2]).permutation(len(labels_N))
    order = shuffled[np.argsort(labels_N[shuffled], kind="stable")]
    fold_N = np.empty(len(labels_N), dtype=np.int64)
    fold_N[order] = np.arange(len(labels_N)) % folds
    return fold_N


def cross_fitted(
    pool: Pool, procedures: Mapping[str, Procedure], *, folds: int, calibrate: bool, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Out-of-fold predictions [N, C] of each procedure; temperatures, too, are fitted anew in each fold."""
    fold_N = fold_of_rows(pool.labels_N, folds, seed=seed)
    shape = (len(pool.labels_N), pool.members.read(0).shape[1])
    predicted = {name: np.empty(shape, dtype=np.float32) for name in procedures}
    for fold in range(folds):
        train, held_out = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        fitted_on = scan(
            pool.members.take_rows(train), pool.labels_N[train], metric=pool.metric, calibrate=calibrate, seed=seed
        )
        held_out_members = pool.members.take_rows(held_out)
        for name, procedure in procedures.items():
            ensemble = procedure(fitted_on)
            predicted[name][held_out] = ensemble.combine(held_out_members.read(m) for m in ensemble.members)
    return predicted


def judge_procedure(pool: Pool, ensemble: Procedure, single: Procedure, *, folds: int, calibrate: bool, seed: int) -> CrossFit:
    """Cross-fitted scores of choosing an ensemble and of choosing the best single model, and their difference."""
    procedures = {"ensemble": ensemble, "single": single}
    predicted = cross_fitted(pool, procedures, folds=folds, calibrate=calibrate, seed=seed)
    names = REGRESSION if pool.regression else CLASSIFICATION
    scores = {
        key: {name: METRICS[name].function(probs_NC, pool.labels_N) for name in names} for key, probs_NC in predicted.items()
    }
    difference = paired_difference(predicted["ensemble"], predicted["single"], pool.labels_N, metric=pool.metric, seed=seed)
    naive_error = float(pool.metric_errors_M[pool.single])
    optimism = error_of(pool.metric, predicted["single"], pool.labels_N) - naive_error
    return CrossFit(pool.metric, folds, scores["ensemble"], scores["single"], optimism, *difference)
