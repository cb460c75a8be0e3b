"""How much each knob mattered: PED-ANOVA (Optuna's) over the trials of a search, conditional knobs included."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.store.records import MemberRecord, mode_of
from search_spaces.dimensions import Choice, Dimension, Int

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from search_spaces.space import Space

MIN_TRIALS = 8
TOP_TRIALS = 5
"""The method compares the best trials with all; below this many best ones its answer is noise."""


@dataclass(frozen=True)
class Importance:
    """Each knob's share (they sum to one, largest first), from how many trials, and why there is none."""

    shares: dict[str, float] = field(default_factory=dict)
    trials: int = 0
    note: str = ""


def importance_of(records: Sequence[MemberRecord], space: Space, *, metric: str) -> Importance:
    """Return how much each dimension of `space` decided whether a trial was among the best by `metric`."""
    scored = [r for r in records if r.kind == "trial" and r.usable and math.isfinite(r.score(metric))]
    if len(scored) < MIN_TRIALS:
        return Importance(trials=len(scored), note=f"too few: {len(scored)} scored trials, {MIN_TRIALS} are needed")
    if len({record.score(metric) for record in scored}) == 1:
        return Importance(trials=len(scored), note="every trial has the same score")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks on knobs with few trials
        return Importance(_shares(scored, space, metric), len(scored))


def _shares(records: Sequence[MemberRecord], space: Space, metric: str) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if mode_of(metric) == "min" else "maximize")
    for record in records:
        drawn = {dimension.name: _distribution(dimension) for dimension in _active_dimensions(space, record.config)}
        values = {name: record.config[name] for name in drawn}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=drawn, value=record.score(metric)))
    quantile = min(0.5, max(0.1, TOP_TRIALS / len(records)))
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    return {str(name): float(share) for name, share in shares.items()}


def active(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration that were drawn from `space`: conditions hold, and the value lies inside."""
    return {dimension.name: config[dimension.name] for dimension in _active_dimensions(space, config)}


def _active_dimensions(space: Space, config: Mapping[str, Any]) -> list[Dimension]:
    return [
        dimension
        for dimension in space.dimensions
        if (dimension.when is None or dimension.when.holds(config)) and _inside(dimension, config.get(dimension.name))
    ]


def _inside(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Choice):
        return value in dimension.options
    return isinstance(value, int | float) and not isinstance(value, bool) and dimension.low <= value <= dimension.high


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if isinstance(dimension, Int):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=1 if dimension.log else dimension.step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
