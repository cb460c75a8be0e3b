"""The cost of a search: closed forms of successive halving, and a simulation of the asynchronous rule."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.experiment_file import load
from orchestrator.setup.cost import Measured, default_concurrency, estimate, passing, survival


def test_synchronous_halving_in_closed_form() -> None:
    low, _, high = survival("asha", 9, 1, 3, 27)
    assert low == pytest.approx((1 + 2 / 3 + 6 / 9) / 9)  # 27 trials to epoch 1, 9 to epoch 3, 3 to epoch 9
    assert high == 1.0


@pytest.mark.parametrize("arrivals", [1, 2, 5, 12, 40])
def test_passing_a_rung_against_simulation(arrivals: int) -> None:
    scores = np.random.default_rng(0).normal(size=(3000, arrivals))
    passed = 3000.0  # the first to arrive always passes
    for m in range(1, arrivals):
        passed += (scores[:, m] >= np.quantile(scores[:, :m], 1 - 1 / 3, axis=1)).sum()
    assert passing(arrivals, 3) == pytest.approx(passed / 3000, rel=0.06)


def test_low_is_below_likely_is_below_high() -> None:
    for scheduler in ("asha", "hyperband", "median"):
        for trials in (1, 5, 12, 100):
            low, likely, high = survival(scheduler, 15, 3, 3, trials)
            assert 3 / 15 <= low <= likely <= high == 1.0


@pytest.mark.parametrize("scheduler", ["none", "pbt"])
def test_without_stopping_everything_is_trained(scheduler: str) -> None:
    assert survival(scheduler, 15, 3, 3, 12) == (1.0, 1.0, 1.0)
    assert survival("asha", 3, 3, 3, 12) == (1.0, 1.0, 1.0)


def test_an_estimate_adds_up() -> None:
    experiment = load(
        None,
        ["search={trials: 10, scheduler: none, concurrency: 5}", "ensemble={refit: {top: 2, members: 3}, boost_rounds: 1}"],
    )
    cost = estimate(experiment, epochs=4, cpus=64, measured=Measured(1.0, 2.0, 10.0, 5))
    assert cost.epochs == (40, 40, 40)
    assert cost.other_epochs == 4 * (1 + 6 + 1)
    assert cost.seconds == pytest.approx(((40 + 32) * 2.0 / 5,) * 3)
    assert cost.disk_mb == pytest.approx(10.0 * (10 + 8 + 2 * 3 * 5))
    assert cost.to_dict()["seconds"]["likely"] == cost.seconds[1]
    assert estimate(experiment, epochs=4, cpus=64).seconds is None


def test_disk_stays_under_the_cap() -> None:
    cost = estimate(load(None, ["search.disk_cap_gb=0.5"]), epochs=4, cpus=2, measured=Measured(1.0, 1.0, 100.0, 5))
    assert cost.disk_mb == 500


@pytest.mark.parametrize(
    ("cpus_per_trial", "gpus_per_trial", "cpus", "gpus", "expected"),
    [(1.0, -1.0, 2, 0, 2), (4.0, -1.0, 2, 0, 1), (1.0, 0.5, 16, 2, 4), (8.0, 0.5, 16, 2, 2), (1.0, 1.0, 4, 0, 4)],
)
def test_trials_at_once(cpus_per_trial: float, gpus_per_trial: float, cpus: int, gpus: int, expected: int) -> None:
    assert default_concurrency(cpus_per_trial, gpus_per_trial, cpus, gpus) == expected
