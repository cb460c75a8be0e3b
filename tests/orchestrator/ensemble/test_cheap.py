"""Soups, cascades and fronts against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensemble import cheap
from orchestrator.ensemble.metrics import accuracy


def test_greedy_soup_keeps_what_helps_and_never_falls_below_the_best():
    good = {(1,): 0.8, (1, 2): 0.7, (1, 0): 0.82, (1, 0, 3): 0.82}
    soup, score = cheap.greedy_soup([0.75, 0.8, 0.76, 0.5], lambda members: good[members])
    assert (soup, score) == ((1, 0, 3), 0.82)
    assert cheap.greedy_soup([0.1, 0.9], lambda _: 0.0) == ((1,), 0.9)


def test_cascade_answers_by_the_first_confident_stage():
    stages = np.array([[[0.9, 0.1], [0.6, 0.4], [0.55, 0.45]], [[0.5, 0.5], [0.2, 0.8], [0.45, 0.55]]], dtype=np.float32)
    found = cheap.cascade(stages, [1.0, 4.0], threshold=0.7)
    assert found.stage_N.tolist() == [0, 1, 1]
    assert found.probs_NC == pytest.approx(np.stack([stages[0, 0], stages[1, 1], stages[1, 2]]))
    assert found.mean_cost == pytest.approx((1 + 5 + 5) / 3)


def test_cascade_threshold_is_the_cheapest_that_keeps_the_accuracy(make_pool):
    probs, labels = make_pool(9, 1000, 4, seed=0)
    stages = np.stack([probs[0], probs.mean(0)])
    threshold = cheap.cascade_threshold(stages, [1.0, 9.0], labels, tolerance=0.01)
    chosen = cheap.cascade(stages, [1.0, 9.0], threshold=threshold)
    assert accuracy(chosen.probs_NC, labels) >= accuracy(stages[1], labels) - 0.01
    assert chosen.mean_cost < 10.0
    for lower in np.linspace(0.25, threshold - 0.02, 30):
        tried = cheap.cascade(stages, [1.0, 9.0], threshold=lower)
        assert tried.mean_cost < chosen.mean_cost
        assert accuracy(tried.probs_NC, labels) < accuracy(stages[1], labels) - 0.01 + 0.005


def test_pareto_front_equals_brute_force():
    rng = np.random.default_rng(0)
    scores, costs = rng.integers(0, 8, 40).tolist(), rng.integers(0, 8, 40).tolist()
    front = cheap.pareto_front(scores, costs)

    def beaten(i):
        return any(
            scores[j] >= scores[i] and costs[j] <= costs[i] and (scores[j] > scores[i] or costs[j] < costs[i])
            for j in range(40)
        )

    assert {(scores[i], costs[i]) for i in front} == {(scores[i], costs[i]) for i in range(40) if not beaten(i)}
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_best_within_a_limit():
    assert cheap.best_within([0.9, 0.95, 0.95, 0.99], [1, 3, 2, 10], limit=5) == 2
    with pytest.raises(ValueError, match="at most 0.5; the cheapest candidate costs 1"):
        cheap.best_within([0.9], [1], limit=0.5)
