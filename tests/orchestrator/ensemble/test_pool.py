"""The one pass over the members against straightforward computation."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.metrics import log_loss, true_class
from orchestrator.ensemble.pool import scan


def test_scan_measures_each_calibrated_member(make_pool):
    probs, labels = make_pool(4, 300, 3, seed=0)
    pool = scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)
    for m in range(4):
        temperature = fit_temperature(probs[m], labels)
        calibrated = apply_temperature(probs[m], temperature)
        assert pool.temperatures_M[m] == pytest.approx(temperature)
        assert np.array_equal(pool.read(m), calibrated)
        assert np.array_equal(pool.target_MN[m], true_class(calibrated, labels))
        assert pool.fit_errors_M[m] == pytest.approx(log_loss(calibrated, labels), abs=1e-5)
        assert pool.metric_errors_M[m] == pytest.approx((probs[m].argmax(1) != labels).mean())
    assert pool.best(2) == np.argsort(pool.fit_errors_M)[:2].tolist()
    assert pool.single == int(np.argmin(pool.metric_errors_M))


def test_without_calibration_members_stay_as_they_are(make_pool):
    probs, labels = make_pool(2, 100, 3, seed=1)
    pool = scan(Members.of(probs), labels, metric="log_loss", calibrate=False, seed=0)
    assert pool.temperatures_M.tolist() == [1.0, 1.0]
    assert pool.read(0) == pytest.approx(probs[0], abs=1e-6)


def test_log_loss_breaks_ties_of_the_best_single(make_pool):
    probs, labels = make_pool(1, 200, 3, seed=2)
    worse = apply_temperature(probs[0], 0.2)  # the same classes, overconfident
    assert scan(Members.of([worse, probs[0]]), labels, metric="accuracy", calibrate=False, seed=0).single == 1


def test_temperature_of_many_rows_is_fitted_on_some_of_them(make_pool):
    probs, labels = make_pool(1, 5000, 3, seed=3, spread=1.0)
    found = scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0).temperatures_M[0]
    assert found == pytest.approx(fit_temperature(probs[0], labels), rel=0.1)
    assert found != fit_temperature(probs[0], labels)


def test_regression_keeps_the_predictions():
    preds = np.random.default_rng(0).normal(size=(3, 50, 1)).astype(np.float32)
    targets = np.random.default_rng(1).normal(size=50)
    pool = scan(Members.of(preds), targets, metric="mae", calibrate=True, seed=0)
    assert np.array_equal(pool.target_MN, preds[:, :, 0])
    assert pool.fit_errors_M == pytest.approx(((preds[:, :, 0] - targets) ** 2).mean(1))
    assert pool.single == int(np.argmin(np.abs(preds[:, :, 0] - targets).mean(1)))


def test_take_renumbers_everything(make_pool):
    probs, labels = make_pool(5, 80, 3, seed=4)
    pool = scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)
    some = pool.take([4, 1])
    assert np.array_equal(some.read(0), pool.read(4))
    assert np.array_equal(some.target_MN[1], pool.target_MN[1])
    assert some.metric_errors_M.tolist() == pool.metric_errors_M[[4, 1]].tolist()
