"""Which controls stand beside an ensemble."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.controls import control_ensembles
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.spec import EnsembleSpec


@pytest.fixture
def pool(make_pool):
    probs, labels = make_pool(8, 300, 3, seed=0)
    return scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)


def controls(pool, spec=None, size=3, baseline=2):
    return control_ensembles(pool, size=size, spec=spec or EnsembleSpec(), baseline=baseline, seed=0)


def test_every_control_has_its_members_and_equal_weights(pool):
    found = controls(pool)
    assert list(found) == ["baseline", "best single", "uniform top-k", "uniform all", "greedy"]
    assert found["baseline"].members == (2,)
    assert found["best single"].members == (pool.single,)
    assert found["uniform top-k"].members == tuple(sorted(np.argsort(pool.fit_errors_M)[:3]))
    assert found["uniform all"].members == tuple(range(8))
    assert len(set(found["uniform top-k"].weights)) == 1
    assert found["greedy"].method == "greedy"


def test_the_headline_method_is_not_shown_twice(pool):
    assert "greedy" not in controls(pool, EnsembleSpec(method="greedy"))


def test_no_baseline_leaves_its_row_out(pool):
    assert "baseline" not in controls(pool, baseline=None)
