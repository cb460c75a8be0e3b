"""Calibration against scikit-learn's own and scipy's optimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from orchestrator.ensemble import calibration
from orchestrator.ensemble.metrics import ece, log_loss


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose logits are its input."""

    def fit(self, x, y):  # noqa: ARG002
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return self.classes_[x.argmax(1)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_temperature_equals_scikit_learn(make_pool, seed):
    (probs,), labels = make_pool(1, 1500, 6, seed=seed, spread=1.0)
    logits = np.log(np.maximum(probs, 2.0**-24)).astype(np.float64)
    given = Given().fit(logits, labels)
    model = CalibratedClassifierCV(FrozenEstimator(given), method="temperature", ensemble=False).fit(logits, labels)
    theirs = model.predict_proba(logits)
    ours = calibration.apply_temperature(probs, calibration.fit_temperature(probs, labels))
    assert ours == pytest.approx(theirs, abs=2e-3)
    assert log_loss(ours, labels) <= log_loss(theirs, labels) + 5e-6  # the doubt of 1 / (n + 2)


@pytest.mark.parametrize("seed", range(4))
def test_temperature_equals_a_scalar_search(make_pool, seed):
    (probs,), labels = make_pool(1, 300, 3, seed=seed, spread=1.5)
    sure = np.full((300, 3), 1 / 302 / 3)
    sure[np.arange(300), labels] += 301 / 302
    search = minimize_scalar(
        lambda log_t: -(sure * np.log(calibration.apply_temperature(probs, float(np.exp(log_t))))).sum(),
        bounds=(-3, 3),
        method="bounded",
    )
    assert np.log(calibration.fit_temperature(probs, labels)) == pytest.approx(search.x, abs=2e-3)


def test_temperature_undoes_a_known_sharpening(make_pool):
    (probs,), labels = make_pool(1, 4000, 5, seed=0)
    once = calibration.apply_temperature(probs, calibration.fit_temperature(probs, labels))
    sharpened = calibration.apply_temperature(once, 0.4)
    assert calibration.fit_temperature(sharpened, labels) == pytest.approx(1 / 0.4, rel=0.02)
    assert ece(once, labels) < ece(probs, labels)


def test_temperature_keeps_the_predicted_class_and_one_is_the_identity(make_pool):
    (probs,), _ = make_pool(1, 200, 4, seed=3)
    assert np.array_equal(calibration.apply_temperature(probs, 2.7).argmax(1), probs.argmax(1))
    assert calibration.apply_temperature(probs, 1.0) == pytest.approx(probs, abs=1e-6)


def test_rows_without_a_mistake_still_leave_a_doubt():
    """Two classes, every row right by the same logit: the error that is modelled is half of 1 / (n + 2)."""
    probs = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (98, 1))
    calibrated = calibration.apply_temperature(probs, calibration.fit_temperature(probs, np.zeros(98, dtype=np.int64)))
    assert calibrated[0, 1] == pytest.approx(0.5 / 100, rel=1e-3)


@pytest.mark.parametrize("label_noise", [0.0, 0.2])
def test_one_hot_members_get_a_finite_temperature(label_noise):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    said = np.where(rng.random(500) < label_noise, (labels + 1) % 3, labels)
    temperature = calibration.fit_temperature(np.eye(3, dtype=np.float32)[said], labels)
    assert 1 / 50.0 <= temperature <= 50.0
    if label_noise:
        calibrated = calibration.apply_temperature(np.eye(3, dtype=np.float32)[said], temperature)
        assert calibrated.max() == pytest.approx((said == labels).mean(), abs=0.01)


def test_vector_scaling_repairs_a_biased_class(make_pool):
    (probs,), labels = make_pool(1, 3000, 4, seed=1)
    biased = probs * np.array([8.0, 1.0, 1.0, 1.0], dtype=np.float32)
    biased /= biased.sum(1, keepdims=True)
    scaled = calibration.fit_vector_scaling(biased, labels).apply(biased)
    by_temperature = calibration.apply_temperature(biased, calibration.fit_temperature(biased, labels))
    best = calibration.apply_temperature(probs, calibration.fit_temperature(probs, labels))
    assert log_loss(scaled, labels) < log_loss(by_temperature, labels) - 0.01
    assert log_loss(scaled, labels) < log_loss(best, labels) + 0.01
    assert scaled.sum(1) == pytest.approx(1.0, abs=1e-6)


def test_vector_scaling_leaves_a_class_without_rows_alone():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    fitted = calibration.fit_vector_scaling(probs, rng.integers(0, 3, 300))
    assert np.isfinite(fitted.apply(probs)).all()


def test_isotonic_equals_scikit_learn_in_each_class(make_pool):
    (probs,), labels = make_pool(1, 1000, 3, seed=2)
    curves = np.stack(
        [
            IsotonicRegression(out_of_bounds="clip").fit(probs[:, c].astype(float), labels == c).predict(probs[:, c])
            for c in range(3)
        ],
        1,
    )
    curves = np.clip(curves, 1 / 1002, 1 - 1 / 1002)
    fitted = calibration.fit_isotonic(probs, labels)
    exact = np.stack([np.interp(probs[:, c], fitted.inputs[c], fitted.outputs[c]) for c in range(3)], 1)
    assert np.abs(exact - curves).mean() < 0.01  # they differ where a jump of the reference is spread
    assert fitted.apply(probs) == pytest.approx(exact / exact.sum(1, keepdims=True), abs=1e-6)
    for x, y in zip(fitted.inputs, fitted.outputs, strict=True):
        assert (np.diff(y) >= 0).all()
        assert (np.diff(y) <= calibration.STEEPEST * np.diff(x) + 1e-9).all()


def test_isotonic_leaves_a_class_without_rows_alone_and_is_never_certain():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    fitted = calibration.fit_isotonic(probs, rng.integers(0, 3, 300))
    assert (fitted.inputs[3], fitted.outputs[3]) == ((0.0, 1.0), (0.0, 1.0))
    assert all(min(y) >= 1 / 302 and max(y) <= 1 - 1 / 302 for y in fitted.outputs[:3])


def test_reliability_curve_of_a_calibrated_model_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    first = rng.random(60_000)
    probs = np.stack([first, 1 - first], 1).astype(np.float32)
    labels = (rng.random(60_000) > first).astype(np.int64)
    curve = calibration.reliability_curve(probs, labels, bins=10)
    assert curve.count_B.sum() == 60_000
    assert curve.accuracy_B == pytest.approx(curve.confidence_B, abs=0.02)
    gap = np.abs(curve.accuracy_B - curve.confidence_B) @ curve.count_B / 60_000
    assert ece(probs, labels, bins=10) == pytest.approx(gap, abs=1e-6)
