"""Boosting's arithmetic replayed on the rounds of scikit-learn's own AdaBoost."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from orchestrator.ensemble import boosting
from orchestrator.ensemble.voting import hard


@pytest.mark.parametrize("learning_rate", [1.0, 0.2])
def test_samme_equals_scikit_learn(learning_rate):
    images, labels = load_digits(return_X_y=True)
    model = AdaBoostClassifier(
        DecisionTreeClassifier(max_depth=4, random_state=0), n_estimators=8, learning_rate=learning_rate, random_state=0
    ).fit(images[:800], labels[:800])
    weights = np.ones(800)
    for member, alpha, error in zip(model.estimators_, model.estimator_weights_, model.estimator_errors_, strict=False):
        found = boosting.samme_round(
            weights, member.predict(images[:800]) != labels[:800], n_classes=10, learning_rate=learning_rate
        )
        assert (found.member_weight, found.error, found.stop) == (pytest.approx(alpha), pytest.approx(error), None)
        weights = found.row_weights_N
    votes = np.stack([np.eye(10)[member.predict(images[800:])] for member in model.estimators_])
    assert np.array_equal(hard(votes, model.estimator_weights_).argmax(1), model.predict(images[800:]))


def test_samme_of_two_classes_is_adaboost():
    wrong = np.array([True, False, False, False])
    found = boosting.samme_round(np.ones(4), wrong, n_classes=2, learning_rate=1.0)
    assert found.member_weight == pytest.approx(np.log(3))
    assert found.row_weights_N @ wrong == pytest.approx(0.5)  # the known property: the next round starts at chance


def test_samme_stops_at_chance_and_at_perfection():
    assert boosting.samme_round(np.ones(10), np.ones(10, bool), n_classes=5).stop == boosting.CHANCE
    chance = boosting.samme_round(np.ones(10), np.arange(10) < 8, n_classes=5)
    assert (chance.stop, chance.member_weight) == (boosting.CHANCE, 0.0)
    perfect = boosting.samme_round(np.ones(10), np.zeros(10, bool), n_classes=5)
    assert (perfect.stop, perfect.member_weight) == (boosting.PERFECT, 1.0)


@pytest.mark.parametrize("loss", ["linear", "square", "exponential"])
def test_r2_equals_scikit_learn(loss):
    x, y = load_diabetes(return_X_y=True)
    model = AdaBoostRegressor(
        DecisionTreeRegressor(max_depth=3, random_state=0), n_estimators=8, loss=loss, random_state=0
    ).fit(x, y)
    weights = np.ones(len(y))
    for member, alpha, error in zip(model.estimators_, model.estimator_weights_, model.estimator_errors_, strict=False):
        found = boosting.r2_round(weights, member.predict(x), y, loss=loss)
        assert (found.member_weight, found.error) == (pytest.approx(alpha), pytest.approx(error))
        weights = found.row_weights_N
    preds = np.stack([member.predict(x) for member in model.estimators_])
    assert boosting.weighted_median(preds, model.estimator_weights_) == pytest.approx(model.predict(x))


def test_r2_stops_at_chance_and_at_perfection():
    targets = np.array([0.0, 1.0, 2.0])
    assert boosting.r2_round(np.ones(3), targets, targets).stop == boosting.PERFECT
    assert boosting.r2_round(np.ones(3), targets + [5, 5, 0], targets).stop == boosting.CHANCE
    with pytest.raises(ValueError, match="linear, square, exponential; got 'cubic'"):
        boosting.r2_round(np.ones(3), targets, targets, loss="cubic")


def test_rising_validation_loss_stops():
    going = boosting.samme_round(np.ones(10), np.arange(10) < 2, n_classes=5)
    assert boosting.stop_reason(going, []) is None
    assert boosting.stop_reason(going, [0.5, 0.4]) is None
    assert boosting.stop_reason(going, [0.5, 0.4, 0.45]) == boosting.RISING
    assert boosting.stop_reason(going, [0.5, 0.4, 0.45], patience=2) is None
    assert boosting.stop_reason(boosting.samme_round(np.ones(4), np.ones(4, bool), n_classes=2), []) == boosting.CHANCE
