"""Splits are stratified, seeded, respect what is given, and depend on ids alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing
from trainables.data.split import Assignment, assign, quotas


def listing(counts: Sequence[int], given: Sequence[str] | None = None, *, regression: bool = False) -> Listing:
    targets = np.repeat(np.arange(len(counts)), counts)
    return Listing(
        ids=tuple(f"row/{row}" for row in range(len(targets))),
        targets=targets.astype(np.float64) if regression else targets,
        given=tuple(given) if given else ("",) * len(targets),
        classes=() if regression else tuple(f"c{number}" for number in range(len(counts))),
    )


def parts(found: Assignment) -> list[list[int]]:
    return [found.train.tolist(), found.val.tolist(), found.test.tolist()]


def test_every_row_once_and_classes_in_proportion() -> None:
    rows = listing([100, 50, 10])
    found = assign(rows, DataConfig())
    assert sorted(sum(parts(found), [])) == list(range(160))
    for part, expected in zip(parts(found), ([60, 30, 6], [20, 10, 2], [20, 10, 2]), strict=True):
        assert np.bincount(rows.targets[part]).tolist() == expected


def test_the_seed_decides_and_the_place_of_a_row_does_not() -> None:
    rows = listing([40, 40])
    found = assign(rows, DataConfig())
    assert parts(assign(rows, DataConfig())) == parts(found)
    assert parts(assign(rows, DataConfig(split_seed=1))) != parts(found)
    turned = rows.take(np.arange(80)[::-1].copy())
    again = assign(turned, DataConfig())
    assert {turned.ids[row] for row in again.test} == {rows.ids[row] for row in found.test}


def test_a_given_test_stays_whole_and_limit_caps_the_rest() -> None:
    rows = listing([60, 60], ["train"] * 40 + ["test"] * 20 + ["train"] * 40 + ["test"] * 20)
    found = assign(rows, DataConfig(limit=30))
    assert found.test.tolist() == [*range(40, 60), *range(100, 120)]
    assert (len(found.train), len(found.val)) == (24, 6)
    assert np.bincount(rows.targets[found.train]).tolist() == [12, 12]


def test_limit_without_given_splits_leaves_that_many_beside_the_test() -> None:
    found = assign(listing([500, 500]), DataConfig(limit=80))
    assert [len(part) for part in parts(found)] == [60, 20, 20]


def test_all_given_are_kept_and_a_missing_test_is_cut_from_train() -> None:
    given = ["train"] * 30 + ["val"] * 10 + ["test"] * 10
    assert parts(assign(listing([25, 25], given), DataConfig())) == [list(range(30)), list(range(30, 40)), list(range(40, 50))]
    found = assign(listing([20, 20], ["train", "train", "train", "val"] * 10), DataConfig())
    assert found.val.tolist() == list(range(3, 40, 4))
    assert (len(found.train), len(found.test)) == (24, 6)
    assert "cut from train" in found.notices[0]


def test_small_classes_keep_a_training_row_and_reach_every_split() -> None:
    rows = listing([3, 5, 200])
    for part in parts(assign(rows, DataConfig())):
        assert set(rows.targets[part]) == {0, 1, 2}


def test_regression_is_cut_plainly() -> None:
    found = assign(listing([50, 50], regression=True), DataConfig(task="regression"))
    assert [len(part) for part in parts(found)] == [60, 20, 20]


def test_no_training_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training rows"):
        assign(listing([5, 5], ["test"] * 10), DataConfig())
    with pytest.raises(ValueError, match="the validation split is empty"):
        assign(listing([1, 1], ["train", "train"]), DataConfig())


@pytest.mark.parametrize(
    ("sizes", "count", "keep", "expected"),
    [
        ([10, 10], 5, 0, [3, 2]),
        ([1, 99], 10, 0, [1, 9]),
        ([2, 98], 20, 2, [0, 19]),
        ([5, 5, 5], 2, 0, [1, 1, 1]),
        ([3, 3], 0, 1, [0, 0]),
    ],
)
def test_quotas(sizes: list[int], count: int, keep: int, expected: list[int]) -> None:
    assert quotas(np.array(sizes), count, keep=keep).tolist() == expected
