"""Votes against scikit-learn's VotingClassifier, hand counts and closed forms."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from orchestrator.ensemble import voting


def test_soft_and_hard_votes_equal_scikit_learn():
    images, labels = load_digits(return_X_y=True)
    models = [("nb", GaussianNB()), *((f"t{d}", DecisionTreeClassifier(max_depth=d, random_state=d)) for d in (3, 5, 8, 9))]
    weights = [1.0, 2.0, 1.5, 3.25, 2.5]
    soft = VotingClassifier(models, voting="soft", weights=weights).fit(images[:600], labels[:600])
    hard = VotingClassifier(models, voting="hard", weights=weights).fit(images[:600], labels[:600])
    probs = np.stack([model.predict_proba(images[600:]) for model in soft.estimators_]).astype(np.float32)
    assert voting.soft(probs, np.array(weights)) == pytest.approx(soft.predict_proba(images[600:]), abs=1e-6)
    ours, theirs = voting.hard(probs, np.array(weights)).argmax(1), hard.predict(images[600:])
    assert (ours == theirs).mean() > 0.99  # the weights leave hardly a tie; scikit-learn breaks those by class order
    assert voting.hard(probs, np.array(weights)).sum(1) == pytest.approx(1.0, abs=1e-6)


def test_a_tied_hard_vote_goes_to_the_greater_mean_probability():
    probs = np.array([[[0.6, 0.4, 0.0]], [[0.1, 0.0, 0.9]]], dtype=np.float32)
    assert voting.hard(probs)[0].argmax() == 2  # class order, scikit-learn's rule, would say 0


def test_a_majority_beats_any_mean_probability():
    probs = np.array([[[0.51, 0.49]], [[0.51, 0.49]], [[0.0, 1.0]]], dtype=np.float32)
    assert voting.hard(probs)[0].argmax() == 0
    assert voting.soft(probs)[0].argmax() == 1


def test_logarithmic_pool_is_the_normalised_geometric_mean():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), (3, 50))
    weights = np.array([0.2, 0.5, 0.3])
    product = np.prod(probs ** weights[:, None, None], axis=0)
    assert voting.logarithmic(probs, weights) == pytest.approx(product / product.sum(1, keepdims=True), abs=1e-6)


def test_regression_mean_equals_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + rng.normal(size=200)
    model = VotingRegressor([("a", LinearRegression()), ("b", DecisionTreeRegressor(max_depth=3))], weights=[3, 1]).fit(x, y)
    preds = np.stack([m.predict(x)[:, None] for m in model.estimators_])
    assert voting.soft(preds, np.array([3.0, 1.0]))[:, 0] == pytest.approx(model.predict(x), abs=1e-5)


def test_members_may_come_one_at_a_time():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (4, 20)).astype(np.float32)
    for vote in voting.VOTINGS.values():
        assert np.array_equal(vote(iter(probs), np.ones(4)), vote(probs, None))


@pytest.mark.parametrize("weights", [np.array([1.0, -1.0]), np.zeros(2)])
def test_weights_must_be_positive(weights):
    with pytest.raises(ValueError, match="weights must be"):
        voting.soft(np.full((2, 1, 2), 0.5), weights)


@pytest.mark.parametrize("members", [1, 2, 3, 4, 7, 25])
@pytest.mark.parametrize("error", [0.0, 0.01, 0.3, 0.5, 1.0])
def test_independent_majority_error_equals_the_sum(members, error):
    expected = sum(comb(members, k) * error**k * (1 - error) ** (members - k) for k in range(members // 2 + 1, members + 1))
    assert voting.independent_majority_error(members, error) == pytest.approx(expected, abs=1e-12)


def test_three_members_of_one_percent_error():
    e = 0.01
    assert voting.independent_majority_error(3, e) == pytest.approx(1 - (1 - e) ** 3 - 3 * (1 - e) ** 2 * e)
    assert round(voting.independent_majority_error(3, e), 4) == 0.0003
    assert voting.independent_majority_error(2001, 0.4) < 1e-12


def test_independent_majority_error_equals_a_simulation():
    wrong = np.random.default_rng(0).random((200_000, 5)) < 0.2
    assert voting.independent_majority_error(5, 0.2) == pytest.approx((wrong.sum(1) > 2.5).mean(), abs=0.002)


def test_independent_majority_error_refuses_nonsense():
    with pytest.raises(ValueError, match="error=1.5"):
        voting.independent_majority_error(3, 1.5)
