"""Greedy selection at the pool's own temperature against a loop that fits every candidate's temperature anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members
from orchestrator.ensemble.calibration import apply_temperature, fit_temperature
from orchestrator.ensemble.greedy import TrueClassLogLoss, greedy_selection
from orchestrator.ensemble.metrics import log_loss, true_class
from orchestrator.ensemble.pool import scan
from orchestrator.ensemble.selection import convex, greedy
from orchestrator.ensemble.spec import EnsembleSpec
from orchestrator.ensemble.tempered import SHORTLIST, TemperedLogLoss, sharpened, tempered_loss


@pytest.fixture
def pool(make_pool):
    probs, labels = make_pool(20, 500, 5, seed=0)
    return scan(Members.of(probs), labels, metric="accuracy", calibrate=True, seed=0)


def best_loss(probs, labels):
    return log_loss(apply_temperature(probs, fit_temperature(probs, labels)), labels)


def exact_selection(members, labels, iterations, most):
    """Every candidate at every step with a temperature of its own."""
    total, picks = np.zeros_like(members[0]), []
    for step in range(iterations):
        open_to = range(len(members)) if len(set(picks)) < most else sorted(set(picks))
        losses = {m: best_loss((total + members[m]) / (step + 1), labels) for m in open_to}
        picks.append(min(losses, key=losses.get))
        total = total + members[picks[-1]]
    return picks


def test_it_ends_as_low_as_the_exact_loop_does(pool):
    members = [pool.read(m) for m in range(20)]
    result = greedy_selection(TemperedLogLoss(members, pool.labels_N, most=6), n_members=20, iterations=15)
    exact = exact_selection(members, pool.labels_N, 15, 6)
    ours, theirs = (np.mean([members[m] for m in picks], axis=0) for picks in (result.picks, exact[: len(result.picks)]))
    assert best_loss(ours, pool.labels_N) <= best_loss(theirs, pool.labels_N) + 2e-3
    assert len(set(result.picks)) <= 6


def test_losses_are_those_of_the_tempered_mean_for_a_shortlist(pool):
    members = [pool.read(m) for m in range(20)]
    objective = TemperedLogLoss(members, pool.labels_N, most=20)
    assert objective.errors() == pytest.approx(pool.fit_errors_M, abs=1e-5)
    for pick in (3, 7):
        objective.add(pick)
    temperature = fit_temperature((members[3] + members[7]) / 2, pool.labels_N)
    errors = objective.errors()
    assert np.isfinite(errors).sum() == SHORTLIST
    expected = [log_loss(apply_temperature((members[3] + members[7] + m) / 3, temperature), pool.labels_N) for m in members]
    tried = np.flatnonzero(np.isfinite(errors))
    assert errors[tried] == pytest.approx([expected[m] for m in tried], abs=1e-5)
    assert int(np.argmin(expected)) in tried


def test_members_that_differ_are_taken_where_plain_log_loss_stops_at_a_few(pool):
    members = np.stack([pool.read(m) for m in range(20)])
    tempered = greedy(pool, EnsembleSpec(method="greedy"), 0).weights_M
    plain = greedy_selection(TrueClassLogLoss(pool.target_MN), n_members=20).weights_M
    losses = [best_loss(np.tensordot(w.astype(np.float32), members, 1), pool.labels_N) for w in (tempered, plain)]
    assert losses[0] < 0.9 * losses[1]
    assert np.count_nonzero(tempered) > np.count_nonzero(plain)


def test_without_calibration_weights_are_those_of_plain_log_loss(make_pool):
    probs, labels = make_pool(12, 300, 4, seed=1)
    raw = scan(Members.of(probs), labels, metric="accuracy", calibrate=False, seed=0)
    found = greedy(raw, EnsembleSpec(method="greedy", calibrate=False, max_members=12), 0).weights_M
    order = raw.best(12)
    plain = greedy_selection(TrueClassLogLoss(raw.target_MN[order]), n_members=12).weights_M
    assert np.array_equal(found[order], plain)


def test_certain_and_wrong_members_stay_finite():
    eye = np.eye(3, dtype=np.float32)
    labels = np.arange(30) % 3
    members = [eye[labels], eye[(labels + 1) % 3], np.full((30, 3), 1 / 3, dtype=np.float32)]
    result = greedy_selection(TemperedLogLoss(members, labels, most=3), n_members=3, iterations=5)
    assert np.isfinite(result.trajectory).all()
    assert result.weights_M == pytest.approx([1.0, 0.0, 0.0])


def test_convex_weighs_members_sharpened_where_that_makes_the_calibrated_pool_better(pool):
    spec = EnsembleSpec()
    found = convex(pool, spec, 0)
    plain = convex(pool, replace(spec, voting="log"), 0)  # not a mean, so not sharpened
    members = np.stack([pool.read(m) for m in range(20)])
    losses = [best_loss(np.tensordot(s.weights_M.astype(np.float32), members, 1), pool.labels_N) for s in (found, plain)]
    assert losses == pytest.approx([tempered_loss(pool, s.weights_M) for s in (found, plain)], abs=1e-6)
    assert losses[0] < 0.95 * losses[1]
    assert found.gap <= 2e-4


def test_sharpened_members_are_powers_of_their_probabilities(pool):
    powers = [pool.read(m).astype(float) ** 2.5 for m in (4, 1)]
    expected = [true_class(p / p.sum(axis=1, keepdims=True), pool.labels_N) for p in powers]
    np.testing.assert_allclose(sharpened(pool, [4, 1], 2.5), expected, rtol=1e-3, atol=1e-7)


def test_a_pool_that_is_not_calibrated_is_weighed_as_it_is(make_pool):
    probs, labels = make_pool(8, 300, 4, seed=1)
    raw = scan(Members.of(probs), labels, metric="accuracy", calibrate=False, seed=0)
    asked = EnsembleSpec(calibrate=False)
    assert np.array_equal(convex(raw, asked, 0).weights_M, convex(raw, replace(asked, voting="log"), 0).weights_M)
