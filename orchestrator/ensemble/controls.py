"""The controls that every ensemble is shown beside: each is an ensemble itself, chosen on the same validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.pool import Pool
from orchestrator.ensemble.procedure import assemble, weighted
from orchestrator.ensemble.spec import EnsembleSpec

BASELINE, SINGLE, UNIFORM_TOP, SEEDS, UNIFORM_ALL = (
    "baseline",
    "best single",
    "uniform top-k",
    "seed ensemble",
    "uniform all",
)


def control_ensembles(
    pool: Pool, *, size: int, spec: EnsembleSpec, groups: Sequence[str], baseline: int | None, seed: int
) -> dict[str, Ensemble]:
    """Controls by name: baseline, best single, same-size uniform top-k and seed ensemble, uniform all, greedy.

    Args:
        pool: the measured members.
        size: number of members of the ensemble that they are compared with.
        spec: what was asked; votes and calibration are the same for the controls.
        groups: configuration hash of each member; members that share one differ by their seed alone.
        baseline: the baseline's place in the pool, where it has one.
        seed: as for the ensemble.

    The seed ensemble is there only when some configuration was trained at least twice.
    """
    controls: dict[str, Ensemble] = {}
    if baseline is not None:
        controls[BASELINE] = _uniform(pool, [baseline], spec, BASELINE)
    controls[SINGLE] = _uniform(pool, [pool.single], spec, SINGLE)
    controls[UNIFORM_TOP] = _uniform(pool, sorted(pool.best(size)), spec, UNIFORM_TOP)
    same = seed_group(pool, groups)
    if same:
        controls[SEEDS] = _uniform(pool, sorted(same[: max(size, 2)]), spec, SEEDS)
    controls[UNIFORM_ALL] = _uniform(pool, list(range(len(pool.members))), spec, UNIFORM_ALL)
    if spec.method != "greedy":
        controls["greedy"] = assemble(pool, spec=replace(spec, diversity=0.0), method="greedy", seed=seed)
    return controls


def seed_group(pool: Pool, groups: Sequence[str]) -> list[int]:
    """Members of the best configuration that was trained at least twice, best first; empty when none was.

    The best single model's own configuration comes first; else the one with the least mean log-loss.
    """
    by_group: dict[str, list[int]] = {}
    for member in pool.best(len(groups)):
        by_group.setdefault(groups[member], []).append(member)
    repeated = {group: members for group, members in by_group.items() if len(members) > 1}
    if not repeated:
        return []
    own = groups[pool.single]
    best = own if own in repeated else min(repeated, key=lambda group: float(pool.fit_errors_M[repeated[group]].mean()))
    return repeated[best]


def _uniform(pool: Pool, chosen: list[int], spec: EnsembleSpec, name: str) -> Ensemble:
    weights_K = np.full(len(chosen), 1.0 / len(chosen))
    return weighted(pool, chosen, weights_K, method=name, voting=spec.voting, calibrate=spec.calibrate)
