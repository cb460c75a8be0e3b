"""The stage's pure entry: from validation predictions, labels and a spec to an ensemble and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Predictions
from orchestrator.ensemble.controls import control_ensembles
from orchestrator.ensemble.crossfit import judge_procedure, usable_folds
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.inputs import check_pool
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.procedure import assemble
from orchestrator.ensemble.spec import EnsembleSpec as EnsembleSpec

Labels = Sequence[float] | NDArray[np.generic]


def fit_ensemble(
    predictions: Predictions, labels: Labels, *, spec: EnsembleSpec, member_ids: Sequence[str], seed: int
) -> Ensemble:
    """Chooses, weighs and calibrates an ensemble on validation predictions, and cross-fits what it will score.

    Args:
        predictions: [M, N, C] or M arrays [N, C]; memory maps are read a member at a time.
        labels: [N] class indices, or targets for regression.
        spec: what is asked.
        member_ids: a name a member.
        seed: decides rows for temperatures, folds, ties, bags and resamples.

    Raises:
        ValueError: for input that cannot be meant; see `inputs.check_pool`.
    """
    checked = check_pool(predictions, labels, metric=spec.metric, ids=member_ids)
    pool = scan(checked.members, checked.labels_N, metric=spec.metric, calibrate=spec.calibrate, seed=seed)
    procedure = partial(assemble, spec=spec, method=spec.method, seed=seed)
    ensemble = procedure(pool)
    notices = checked.notices + ensemble.notices
    cross_fit = None
    if folds := usable_folds(len(checked.labels_N), spec.folds):
        single = partial(assemble, spec=spec, method="single", seed=seed)
        cross_fit = judge_procedure(pool, procedure, single, folds=folds, calibrate=spec.calibrate, seed=seed)
    elif spec.folds:
        notices += (f"{len(checked.labels_N)} validation rows are too few for {spec.folds} folds: no cross-fitted score.",)
    named = _named(ensemble, checked.kept, member_ids)
    return replace(named, cross_fit=cross_fit, notices=notices)


def fit_controls(
    predictions: Predictions,
    labels: Labels,
    *,
    ensemble: Ensemble,
    spec: EnsembleSpec,
    member_ids: Sequence[str],
    baseline_id: str | None = None,
    seed: int,
) -> dict[str, Ensemble]:
    """The controls of an ensemble by name, chosen on the same validation rows; see `controls.control_ensembles`.

    Args:
        ensemble: what they are compared with; it gives their size.
        baseline_id: the baseline's id, where it is among the members.
    """
    checked = check_pool(predictions, labels, metric=spec.metric, ids=member_ids)
    pool = scan(checked.members, checked.labels_N, metric=spec.metric, calibrate=spec.calibrate, seed=seed)
    kept_ids = [member_ids[m] for m in checked.kept]
    controls = control_ensembles(
        pool,
        size=len(ensemble.members),
        spec=spec,
        baseline=kept_ids.index(baseline_id) if baseline_id in kept_ids else None,
        seed=seed,
    )
    return {name: _named(control, checked.kept, member_ids) for name, control in controls.items()}


def _named(ensemble: Ensemble, kept: Sequence[int], member_ids: Sequence[str]) -> Ensemble:
    """The ensemble with places and names of the caller's pool instead of the checked one's."""
    members = tuple(kept[m] for m in ensemble.members)
    return replace(ensemble, members=members, member_ids=tuple(member_ids[m] for m in members))
