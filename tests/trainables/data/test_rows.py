"""Bootstrap, subsample and folds: sizes, strata, seeds, and the share a bootstrap leaves out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.config import TrainConfig
from trainables.data.rows import draw_rows, rows_of

TARGETS = np.repeat(np.arange(4), [400, 300, 200, 100])


def draw(rows: str, **options: Any) -> Any:
    return draw_rows(TARGETS, **({"rows": rows, "seed": 0} | options))


def test_all_is_everything() -> None:
    assert np.array_equal(draw("all"), np.arange(1000))


def test_bootstrap_leaves_out_a_share_of_one_over_e_and_keeps_the_classes() -> None:
    shares = []
    for seed in range(20):
        rows = draw("bootstrap", seed=seed)
        assert len(rows) == 1000
        assert np.bincount(TARGETS[rows]).tolist() == [400, 300, 200, 100]
        shares.append(1 - len(np.unique(rows)) / 1000)
    assert np.mean(shares) == pytest.approx(math.exp(-1), abs=0.008)


def test_subsample_draws_each_row_once() -> None:
    rows = draw("subsample", fraction=0.25)
    assert len(np.unique(rows)) == len(rows) == 250
    assert np.bincount(TARGETS[rows]).tolist() == [100, 75, 50, 25]


def test_folds_partition_the_rows_and_keep_the_classes() -> None:
    left_out = [np.setdiff1d(np.arange(1000), draw("fold", folds=3, fold=fold)) for fold in range(3)]
    assert sorted(np.concatenate(left_out).tolist()) == list(range(1000))
    for rows in left_out:
        assert np.abs(np.bincount(TARGETS[rows]) - np.array([400, 300, 200, 100]) / 3).max() < 1.01


def test_plain_draws_and_measurements_ignore_classes() -> None:
    plain = draw("bootstrap", stratified=False)
    assert np.bincount(TARGETS[plain]).tolist() != [400, 300, 200, 100]
    measured = draw_rows(TARGETS.astype(np.float64), rows="bootstrap", seed=0)
    assert np.array_equal(measured, plain)


@pytest.mark.parametrize("rows", ["bootstrap", "subsample", "fold"])
def test_the_seed_decides(rows: str) -> None:
    options = {"fraction": 0.5} if rows != "fold" else {}
    assert np.array_equal(draw(rows, **options), draw(rows, **options))
    assert not np.array_equal(draw(rows, **options), draw(rows, **options, seed=1))
    assert (np.diff(draw(rows, **options)) >= 0).all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train.rows: got 'some', allowed: all, bootstrap"):
        draw("some")
    with pytest.raises(ValueError, match=r"train.row_fraction: got 1.5"):
        draw("subsample", fraction=1.5)
    with pytest.raises(ValueError, match=r"train.fold: got fold 5 of 5"):
        draw("fold", folds=5, fold=5)


def test_a_configuration_names_drawn_rows_or_those_of_a_file(tmp_path: Path) -> None:
    config = TrainConfig(rows="bootstrap", row_seed=4)
    assert np.array_equal(rows_of(config, TARGETS), draw_rows(TARGETS, rows="bootstrap", seed=4))
    listed = np.array([3, 3, 0], dtype=np.int64)
    np.save(tmp_path / "rows.npy", listed)
    assert np.array_equal(rows_of(TrainConfig(rows_file=str(tmp_path / "rows.npy")), TARGETS), listed)


@pytest.mark.parametrize("rows", [[0, 10_000], [-1], [0.5], [[0, 1]], []])
def test_a_file_of_rows_that_do_not_fit_is_refused(tmp_path: Path, rows: list[object]) -> None:
    np.save(tmp_path / "rows.npy", np.asarray(rows))
    with pytest.raises(ValueError, match="rows_file"):
        rows_of(TrainConfig(rows_file=str(tmp_path / "rows.npy")), TARGETS)
