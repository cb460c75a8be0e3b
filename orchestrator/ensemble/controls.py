"""The controls that every ensemble is shown beside: each is an ensemble itself, chosen on the same validation rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.pool import Pool
from orchestrator.ensemble.procedure import assemble, weighted
from orchestrator.ensemble.spec import EnsembleSpec

BASELINE, SINGLE, UNIFORM_TOP, UNIFORM_ALL, GREEDY = "baseline", "best single", "uniform top-k", "uniform all", "greedy"


def control_ensembles(pool: Pool, *, size: int, spec: EnsembleSpec, baseline: int | None, seed: int) -> dict[str, Ensemble]:
    """Controls by name: baseline, best single, same-size uniform top-k, uniform all, greedy (where that was not asked for).

    Args:
        pool: the measured members.
        size: number of members of the ensemble that they are compared with.
        spec: what was asked; votes and calibration are the same for the controls.
        baseline: the baseline's place in the pool, where it has one.
        seed: as for the ensemble.
    """
    controls: dict[str, Ensemble] = {}
    if baseline is not None:
        controls[BASELINE] = _uniform(pool, [baseline], spec, BASELINE)
    controls[SINGLE] = _uniform(pool, [pool.single], spec, SINGLE)
    controls[UNIFORM_TOP] = _uniform(pool, sorted(pool.best(size)), spec, UNIFORM_TOP)
    controls[UNIFORM_ALL] = _uniform(pool, list(range(len(pool.members))), spec, UNIFORM_ALL)
    if spec.method != GREEDY:
        controls[GREEDY] = assemble(pool, spec=replace(spec, diversity=0.0), method=GREEDY, seed=seed)
    return controls


def _uniform(pool: Pool, chosen: list[int], spec: EnsembleSpec, name: str) -> Ensemble:
    weights_K = np.full(len(chosen), 1.0 / len(chosen))
    return weighted(pool, chosen, weights_K, method=name, spec=spec)
