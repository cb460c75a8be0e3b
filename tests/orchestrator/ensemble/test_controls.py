"""Which controls stand beside an ensemble."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.controls import control_ensembles, seed_group
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.spec import EnsembleSpec


@pytest.fixture
def pool(make_pool):
    probs, labels = make_pool(8, 300, 3, seed=0)
    return scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)


def controls(pool, groups, spec=None, size=3, baseline=2):
    return control_ensembles(pool, size=size, spec=spec or EnsembleSpec(), groups=groups, baseline=baseline, seed=0)


def test_every_control_has_its_members_and_equal_weights(pool):
    groups = ["a", "a", "b", "c", "c", "c", "c", "d"]
    found = controls(pool, groups)
    assert list(found) == ["baseline", "best single", "uniform top-k", "seed ensemble", "uniform all", "greedy"]
    assert found["baseline"].members == (2,)
    assert found["best single"].members == (pool.single,)
    assert found["uniform top-k"].members == tuple(sorted(np.argsort(pool.fit_errors_M)[:3]))
    assert found["uniform all"].members == tuple(range(8))
    assert len(set(found["uniform top-k"].weights)) == 1
    assert found["greedy"].method == "greedy"
    assert len({groups[m] for m in found["seed ensemble"].members}) == 1


def test_the_headline_method_is_not_shown_twice(pool):
    assert "greedy" not in controls(pool, list("aabbccdd"), EnsembleSpec(method="greedy"))


def test_seed_ensemble_is_of_the_best_configuration_and_of_the_same_size(pool):
    best = pool.single
    own = ["x" if m in (best, (best + 1) % 8, (best + 2) % 8, (best + 3) % 8) else "y" for m in range(8)]
    assert set(seed_group(pool, own)) == {best, (best + 1) % 8, (best + 2) % 8, (best + 3) % 8}
    assert len(controls(pool, own)["seed ensemble"].members) == 3
    lone = ["best" if m == best else f"pair{m % 2}" for m in range(8)]
    pairs = {g: np.mean([pool.fit_errors_M[m] for m in range(8) if lone[m] == g]) for g in ("pair0", "pair1")}
    assert {lone[m] for m in seed_group(pool, lone)} == {min(pairs, key=pairs.get)}


def test_no_repeated_configuration_and_no_baseline_leave_those_rows_out(pool):
    found = controls(pool, list("abcdefgh"), baseline=None)
    assert "seed ensemble" not in found
    assert "baseline" not in found
