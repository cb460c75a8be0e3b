"""Out-of-bag estimates against a plain loop, a simulation of the 36.8 %, and a forest of scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from orchestrator.ensemble.bagging import gain_is_noise, in_bag_mask, last_members_gain, out_of_bag
from orchestrator.ensemble.metrics import accuracy


def bootstrap(rows, members, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, rows, rows) for _ in range(members)]


def test_a_bootstrap_bag_leaves_out_a_share_of_one_over_e():
    in_bag = in_bag_mask(bootstrap(1000, 300, 0), 1000)
    assert (~in_bag).mean() == pytest.approx((1 - 1 / 1000) ** 1000, abs=0.002)
    assert round(float((~in_bag).mean()), 2) == round(1 / np.e, 2)


def test_average_equals_a_loop_and_rows_without_a_voter_are_told(make_pool):
    probs, _ = make_pool(3, 40, 3, seed=0)
    in_bag = in_bag_mask(bootstrap(40, 3, 1), 40)
    found = out_of_bag(probs, in_bag)
    for n in range(40):
        voters = [probs[m, n] for m in range(3) if not in_bag[m, n]]
        assert found.voters_N[n] == len(voters)
        if voters:
            assert found.preds_NC[n] == pytest.approx(np.mean(voters, axis=0), abs=1e-6)
        else:
            assert np.isnan(found.preds_NC[n]).all()
            assert n in found.uncovered
    assert len(found.uncovered) == (~found.covered_N).sum() > 0


def test_share_of_uncovered_rows_falls_as_the_formula_says():
    in_bag = in_bag_mask(bootstrap(2000, 5, 2), 2000)
    found = out_of_bag(np.full((5, 2000, 2), 0.5), in_bag)
    assert len(found.uncovered) / 2000 == pytest.approx((1 - np.exp(-1)) ** 5, abs=0.03)


def test_folds_cover_every_row_once():
    folds = np.arange(60) % 4
    in_bag = np.stack([folds != k for k in range(4)])
    found = out_of_bag(np.random.default_rng(0).random((4, 60, 2)), in_bag)
    assert (found.voters_N == 1).all()


def test_estimate_equals_scikit_learns_forest():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:500], labels[:500]
    forest = RandomForestClassifier(60, oob_score=True, random_state=0).fit(images, labels)
    probs = np.stack([tree.predict_proba(images) for tree in forest.estimators_])
    in_bag = in_bag_mask(list(forest.estimators_samples_), 500)
    assert out_of_bag(probs, in_bag).score("accuracy", labels) == pytest.approx(forest.oob_score_)


def test_estimate_is_honest_where_the_training_score_is_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    bags = bootstrap(600, 20, 3)
    in_bag = in_bag_mask(bags, 600)
    memorised = np.where(in_bag, labels, rng.integers(0, 2, (20, 600)))  # knows what it saw, guesses the rest
    probs = np.eye(2)[memorised]
    assert accuracy(probs.mean(0), labels) > 0.9
    assert out_of_bag(probs, in_bag).score("accuracy", labels) == pytest.approx(0.5, abs=0.08)


def test_no_row_out_of_bag_is_an_error():
    found = out_of_bag(np.full((2, 3, 2), 0.5), np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="no row is out of bag"):
        found.score("accuracy", np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match=r"in_bag must be \[2, 3\]"):
        out_of_bag(np.full((2, 3, 2), 0.5), np.ones((3, 3), dtype=bool))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bagging_stops_when_the_last_members_add_only_noise(make_pool, seed):
    probs, labels = make_pool(60, 1500, 4, seed=seed)
    in_bag = in_bag_mask(bootstrap(1500, 60, seed), 1500)

    def stops(count):
        return gain_is_noise(probs[:count], in_bag[:count], labels, metric="accuracy", seed=0)

    assert not stops(3)
    assert not stops(5)
    assert any(stops(count) for count in range(20, 61))
    gain = last_members_gain(probs[:5], in_bag[:5], labels, metric="accuracy", seed=0)
    assert 0 < gain.low < gain.value < gain.high
    assert last_members_gain(probs, in_bag, labels, metric="accuracy", seed=0).value < gain.value / 4


def test_what_the_last_members_brought_needs_others_before_them():
    with pytest.raises(ValueError, match="more than 3 members"):
        last_members_gain(np.full((3, 4, 2), 0.5), np.zeros((3, 4), bool), np.zeros(4, int), metric="accuracy", seed=0)
