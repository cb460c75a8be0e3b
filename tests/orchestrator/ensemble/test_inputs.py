"""The door: what is refused, what is dropped, and what is said."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensemble.inputs import check_pool


def ids(count):
    return [f"trial{i}" for i in range(count)]


def test_a_good_pool_passes_in_silence(make_pool):
    probs, labels = make_pool(4, 60, 3, seed=0)
    checked = check_pool(probs, labels, metric="accuracy", ids=ids(4))
    assert checked.kept == (0, 1, 2, 3)
    assert checked.notices == ()
    assert checked.labels_N.dtype == np.int64


def test_non_finite_members_are_dropped_and_counted(make_pool):
    probs, labels = make_pool(4, 60, 3, seed=0)
    probs[1, 5, 0] = np.nan
    probs[2, 0, 0] = np.inf
    checked = check_pool(probs, labels, metric="accuracy", ids=ids(4))
    assert checked.kept == (0, 3)
    assert "Dropped 2 members" in checked.notices[0]
    assert "trial1, trial2" in checked.notices[0]


def test_duplicates_are_dropped_and_named(make_pool):
    probs, labels = make_pool(4, 60, 3, seed=0)
    probs[3] = probs[1]
    checked = check_pool(probs, labels, metric="accuracy", ids=ids(4))
    assert checked.kept == (0, 1, 2)
    assert "trial3 = trial1" in checked.notices[0]


def test_equal_true_class_alone_is_no_duplicate():
    first = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    second = np.array([[0.5, 0.0, 0.5], [0.0, 0.8, 0.2]])
    assert check_pool([first, second], [0, 1], metric="accuracy", ids=ids(2)).kept == (0, 1)


def test_weak_pools_are_noticed(make_pool):
    probs, labels = make_pool(1, 60, 3, seed=0)
    assert "single model" in check_pool(probs, labels, metric="accuracy", ids=ids(1)).notices[0]
    probs, labels = make_pool(12, 8, 3, seed=0)
    assert "Fewer validation rows (8) than members (12)" in check_pool(probs, labels, metric="accuracy", ids=ids(12)).notices[0]


def refused(match, probs, labels, metric="accuracy", names=None):
    with pytest.raises(ValueError, match=match):
        check_pool(probs, labels, metric=metric, ids=names or ids(len(probs)))


def test_what_cannot_be_meant_is_refused_by_name(make_pool):
    probs, labels = make_pool(3, 20, 3, seed=0)
    refused("no member", [], labels)
    refused("3 members came with 2 ids", probs, labels, names=ids(2))
    refused(r"trial0 has shape \(20, 3\) but trial1: \(19, 3\)", [probs[0], probs[1][:-1]], labels)
    refused(r"got shape \(20,\)", [probs[0][:, 0]], labels)
    refused(r"labels must be \[20\]", probs, labels[:-1])
    refused("from 0 to 2", probs, labels + 1)
    refused("from 0 to 2", probs, labels + 0.5)
    refused("not finite", probs, np.full(20, np.nan))
    refused("one class only", probs, np.zeros(20, dtype=int))
    refused("trial0.*softmax", np.log(probs), labels)
    refused("no probabilities.*trial1", [probs[0], probs[1] * 1.1], labels)
    refused("all 3 members hold NaN", np.full_like(probs, np.nan), labels)
    refused("one column for a regression", probs, labels, metric="rmse")
    refused("two columns or more", probs[:, :, :1], labels)


def test_float16_rounding_of_many_classes_passes():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(1000), (2, 50)).astype(np.float16)
    assert check_pool(probs, rng.integers(0, 1000, 50), metric="accuracy", ids=ids(2)).kept == (0, 1)


def test_regression_takes_any_finite_targets():
    preds = np.random.default_rng(0).normal(size=(2, 10, 1))
    checked = check_pool(preds, np.linspace(-3, 7.5, 10), metric="rmse", ids=ids(2))
    assert checked.kept == (0, 1)
    assert checked.labels_N.dtype == np.float64
