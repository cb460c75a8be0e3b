"""One whole procedure: select on a measured pool, then calibrate what was pooled; `auto` chooses among procedures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.calibration import CALIBRATIONS, fit_temperature
from orchestrator.ensemble.crossfit import cross_fitted, usable_folds
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.metrics import error_of
from orchestrator.ensemble.pool import Pool
from orchestrator.ensemble.selection import SELECTORS, STACKED, Selection
from orchestrator.ensemble.spec import EnsembleSpec
from orchestrator.ensemble.stacking import enough_rows

AUTO_CANDIDATES = 50
"""Members that the automatic choice looks at: the same result as with all within 0.002 nats, many times faster."""
AUTO_FOLDS = 5


def assemble(pool: Pool, *, spec: EnsembleSpec, method: str, seed: int) -> Ensemble:
    """Members, weights and temperatures by one method, from the pool's rows alone; members are numbered by the pool.

    The members' ids are their numbers as text; the caller who knows the names puts them in.
    """
    if method == "auto":
        return _assemble_auto(pool, spec, seed)
    selection = SELECTORS[method](pool, spec, seed)
    chosen = [int(m) for m in np.flatnonzero(selection.weights_M > 0)]
    return weighted(
        pool,
        chosen,
        selection.weights_M[chosen],
        method=method,
        spec=replace(spec, voting="log") if method == "log_pool" else spec,
        selection=selection,
    )


def weighted(
    pool: Pool,
    chosen: Sequence[int],
    weights_K: NDArray[np.float64],
    *,
    method: str,
    spec: EnsembleSpec,
    selection: Selection | None = None,
) -> Ensemble:
    """An ensemble of given members and weights, which vote and are calibrated as `spec` says, fitted on the pool's rows."""
    drafted = Ensemble(
        members=tuple(chosen),
        member_ids=tuple(str(m) for m in chosen),
        weights=tuple(weights_K.tolist()),
        temperatures=tuple(pool.temperatures_M[list(chosen)].tolist()),
        temperature=1.0,
        voting=spec.voting,
        method=method,
        metric=pool.metric,
        trajectory=selection.trajectory if selection else (),
        gap=selection.gap if selection else None,
        head=selection.head if selection else None,
    )
    if pool.regression:
        return drafted
    if selection and selection.temperature is not None:
        drafted = replace(drafted, temperature=selection.temperature)
    elif spec.calibrate and (len(chosen) > 1 or spec.voting == "hard"):
        drafted = replace(drafted, temperature=fit_temperature(_predicted(drafted, pool), pool.labels_N))
    if not spec.calibrate or spec.calibration not in CALIBRATIONS:
        return drafted
    return replace(drafted, calibrator=CALIBRATIONS[spec.calibration](_predicted(drafted, pool), pool.labels_N))


def _predicted(ensemble: Ensemble, pool: Pool) -> NDArray[np.float32]:
    return ensemble.combine(pool.members.read(m) for m in ensemble.members)


def auto_options(pool: Pool, spec: EnsembleSpec) -> dict[str, tuple[str, EnsembleSpec]]:
    """The procedures that `auto` compares: name -> (method, spec); stacking only where it has rows enough."""
    options = {method: (method, spec) for method in ("single", "topk", "greedy")}
    for l2 in (0.1, 0.5):
        options[f"convex l2={l2}"] = ("convex", replace(spec, l2=l2))
    if pool.regression:
        return options
    for l2 in (0.1, 1.0):
        options[f"log_pool l2={0.01 * l2:g}"] = ("log_pool", replace(spec, l2=l2))
    n_rows, n_classes = pool.members.read(0).shape
    stacked = min(STACKED, spec.max_members, len(pool.members))
    if enough_rows(n_rows * (AUTO_FOLDS - 1) // AUTO_FOLDS, stacked, n_classes):
        options["stack_lr"] = ("stack_lr", spec)
    return options


def _assemble_auto(pool: Pool, spec: EnsembleSpec, seed: int) -> Ensemble:
    """Runs the option with the least cross-fitted error on these rows."""
    shortlist = pool.best(AUTO_CANDIDATES)
    small = pool.take(shortlist)
    options = auto_options(small, spec)
    folds = usable_folds(len(pool.labels_N), AUTO_FOLDS)
    errors = {"convex l2=0.5": 0.0}
    if folds:
        procedures = {name: partial(assemble, spec=s, method=m, seed=seed) for name, (m, s) in options.items()}
        predicted = cross_fitted(small, procedures, folds=folds, calibrate=spec.calibrate, seed=seed)
        errors = {name: error_of(spec.criterion, predicted[name], pool.labels_N) for name in options}
    method, chosen_spec = options[min(errors, key=lambda name: errors[name])]
    found = assemble(small, spec=chosen_spec, method=method, seed=seed)
    members = tuple(shortlist[m] for m in found.members)
    said = "Cross-fitted " + spec.criterion + " of each option: " + ", ".join(f"{n} {e:.5f}" for n, e in errors.items()) + "."
    return replace(found, members=members, member_ids=tuple(map(str, members)), notices=(said,))
