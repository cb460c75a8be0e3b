"""A procedure's ensemble is calibrated, and `auto` takes what cross-fitting found best."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.calibration import Isotonic, VectorScaling, fit_temperature
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.metrics import ece, log_loss
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.procedure import assemble, auto_options
from orchestrator.ensemble.selection import SELECTORS
from orchestrator.ensemble.spec import EnsembleSpec


def measured(probs, labels, metric="accuracy", calibrate=True):
    return scan(Members.of(probs), labels, metric=metric, calibrate=calibrate, seed=0)


@pytest.mark.parametrize("voting", ["soft", "hard", "log"])
def test_the_pooled_temperature_calibrates(make_pool, voting):
    probs, labels = make_pool(10, 2000, 4, seed=0)
    train, test = slice(0, 1000), slice(1000, 2000)
    ensemble = assemble(measured(probs[:, train], labels[train]), spec=EnsembleSpec(voting=voting), method="convex", seed=0)
    out = ensemble.combine([probs[m, test] for m in ensemble.members])
    assert ensemble.voting == voting
    assert out.sum(1) == pytest.approx(1.0, abs=1e-5)
    if voting != "hard":  # shares of ten votes are coarse: a class without a vote has next to no probability
        assert ece(out, labels[test]) < 0.04
    fitted_on = ensemble.combine([probs[m, train] for m in ensemble.members])
    assert fit_temperature(fitted_on, labels[train]) == pytest.approx(1.0, abs=0.02)


def test_calibration_helps_an_overconfident_pool(make_pool):
    probs, labels = make_pool(10, 2000, 4, seed=1, spread=0.8)
    train, test = slice(0, 1000), slice(1000, 2000)

    def held_out(calibrate):
        spec = EnsembleSpec(calibrate=calibrate)
        ensemble = assemble(measured(probs[:, train], labels[train], calibrate=calibrate), spec=spec, method="convex", seed=0)
        return log_loss(ensemble.combine([probs[m, test] for m in ensemble.members]), labels[test])

    assert held_out(True) < held_out(False)


@pytest.mark.parametrize(("calibration", "kind"), [("vector", VectorScaling), ("isotonic", Isotonic)])
def test_a_calibrator_repairs_what_a_temperature_cannot(make_pool, calibration, kind):
    probs, labels = make_pool(6, 6000, 4, seed=7)
    biased = probs * np.array([8.0, 1.0, 1.0, 1.0], dtype=np.float32)  # every member favours the first class
    biased /= biased.sum(2, keepdims=True)
    train, test = slice(0, 4000), slice(4000, 6000)
    pool = measured(biased[:, train], labels[train])
    specs = {name: EnsembleSpec(calibration=name) for name in ("temperature", calibration)}
    by = {name: assemble(pool, spec=spec, method="convex", seed=0) for name, spec in specs.items()}
    out = {name: one.combine([biased[m, test] for m in one.members]) for name, one in by.items()}
    assert by["temperature"].calibrator is None
    assert isinstance(by[calibration].calibrator, kind)
    assert by[calibration].members == by["temperature"].members
    assert log_loss(out[calibration], labels[test]) < log_loss(out["temperature"], labels[test]) - 0.02
    assert np.array_equal(by[calibration].calibrator.apply(out["temperature"]), out[calibration])
    again = Ensemble.from_json(json.loads(json.dumps(by[calibration].to_json())))
    assert again == by[calibration]


def test_uncalibrated_is_the_plain_weighted_mean(make_pool):
    probs, labels = make_pool(5, 300, 3, seed=2)
    ensemble = assemble(measured(probs, labels), spec=EnsembleSpec(calibration="vector"), method="convex", seed=0)
    expected = np.tensordot(ensemble.weights, probs[list(ensemble.members)], 1)
    assert ensemble.uncalibrated().combine([probs[m] for m in ensemble.members]) == pytest.approx(expected, abs=1e-5)


def test_without_calibration_every_temperature_is_one(make_pool):
    probs, labels = make_pool(5, 200, 3, seed=2)
    spec = EnsembleSpec(calibrate=False)
    ensemble = assemble(measured(probs, labels, calibrate=False), spec=spec, method="greedy", seed=0)
    assert set(ensemble.temperatures) == {1.0}
    assert ensemble.temperature == 1.0
    expected = np.tensordot(ensemble.weights, probs[list(ensemble.members)], 1)
    assert ensemble.combine([probs[m] for m in ensemble.members]) == pytest.approx(expected, abs=1e-5)


def test_auto_takes_a_single_member_when_the_rest_is_noise(make_pool):
    (best,), labels = make_pool(1, 600, 3, seed=3, own=0.5)
    rng = np.random.default_rng(0)
    noise = rng.dirichlet(np.ones(3), (8, 600)).astype(np.float32)
    found = assemble(
        measured(np.concatenate([noise, best[None]]), labels), spec=EnsembleSpec(method="auto"), method="auto", seed=0
    )
    assert dict(zip(found.members, found.weights, strict=True))[8] > 0.9
    assert "Cross-fitted log_loss of each option: single" in found.notices[0]


def test_auto_options_hold_stacking_only_with_rows_enough(make_pool):
    spec = EnsembleSpec(method="auto", max_members=3)
    few, many = make_pool(4, 200, 3, seed=4), make_pool(4, 400, 3, seed=4)
    assert "stack_lr" not in auto_options(measured(*few), spec)
    assert "stack_lr" in auto_options(measured(*many), spec)
    preds = np.random.default_rng(0).normal(size=(3, 50, 1))
    regression = auto_options(measured(preds, np.zeros(50), metric="rmse"), EnsembleSpec(method="auto", metric="rmse"))
    assert {method for method, _ in regression.values()} == {"single", "topk", "greedy", "convex"}


def test_auto_runs_on_few_rows_without_cross_fitting(make_pool):
    probs, labels = make_pool(3, 8, 3, seed=5)
    found = assemble(measured(probs, labels), spec=EnsembleSpec(method="auto"), method="auto", seed=0)
    assert found.method == "convex"


def test_a_stacked_ensemble_combines_through_its_head(make_pool):
    probs, labels = make_pool(3, 900, 3, seed=6)
    pool = measured(probs, labels)
    ensemble = assemble(pool, spec=EnsembleSpec(max_members=3), method="stack_lr", seed=0)
    head = SELECTORS["stack_lr"](pool, EnsembleSpec(max_members=3), 0).head
    expected = head.combine(np.stack([pool.read(m) for m in ensemble.members]))
    assert ensemble.combine([probs[m] for m in ensemble.members]) == pytest.approx(expected, abs=1e-5)
