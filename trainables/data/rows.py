"""Which training rows one member sees: all, a bootstrap, a subsample, or all but one fold; seeded and stratified."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.config import TrainConfig
from trainables.data.split import quotas
from trainables.randomness import key, uniform

MODES = ("all", "bootstrap", "subsample", "fold")


def rows_of(config: TrainConfig, targets: NDArray[Any]) -> NDArray[np.int64]:
    """Return the training rows that a configuration names, the same at every call; raises ValueError for a file unfit."""
    if not config.rows_file:
        return draw_rows(
            targets, rows=config.rows, fraction=config.row_fraction, folds=config.folds, fold=config.fold, seed=config.row_seed,
            stratified=config.stratified,
        )  # fmt: skip
    found: NDArray[Any] = np.load(config.rows_file, allow_pickle=False)
    if found.ndim != 1 or found.dtype != np.int64 or not len(found) or found.min() < 0 or found.max() >= len(targets):
        raise ValueError(
            f"train.rows_file: {config.rows_file} holds {found.dtype} {found.shape}, expected int64 rows below {len(targets)}"
        )
    return found


def draw_rows(
    targets: NDArray[Any],
    *,
    rows: str,
    fraction: float = 1.0,
    folds: int = 5,
    fold: int = 0,
    seed: int,
    stratified: bool = True,
) -> NDArray[np.int64]:
    """Return ascending int64 rows of `targets` [N]; raises ValueError.

    "bootstrap" draws `fraction` * N with replacement (at 1.0 about 36.8 % are never drawn), "subsample" as many without,
    "fold" leaves out fold number `fold` of `folds`. Stratified draws keep the share of each class; targets that are
    measurements (floats) are drawn plainly.
    """
    _check(rows, fraction, folds, fold)
    classes = targets if stratified and np.issubdtype(targets.dtype, np.integer) else np.zeros(len(targets), dtype=np.int64)
    if rows == "all":
        return np.arange(len(targets))
    draws = uniform(key(seed, "rows", MODES.index(rows)), torch.arange(len(targets))).squeeze(-1).numpy()
    members = [np.flatnonzero(classes == name) for name in np.unique(classes)]
    if rows == "fold":
        return _without_fold(members, draws, folds, fold)
    counts = quotas(np.array([len(group) for group in members], dtype=np.int64), round(fraction * len(targets)))
    if rows == "subsample":
        drawn = [group[np.argsort(draws[group], kind="stable")[:count]] for group, count in zip(members, counts, strict=True)]
    else:
        drawn = [
            group[(draws[group[:count]] * len(group)).astype(np.int64)] for group, count in zip(members, counts, strict=True)
        ]
    return np.sort(np.concatenate(drawn))


def _without_fold(members: list[NDArray[np.int64]], draws: NDArray[np.float64], folds: int, fold: int) -> NDArray[np.int64]:
    """Return all rows but one fold's; folds are dealt class after class, so that their sizes differ by at most one."""
    dealt = np.concatenate([group[np.argsort(draws[group], kind="stable")] for group in members])
    return np.sort(dealt[np.arange(len(dealt)) % folds != fold])


def _check(rows: str, fraction: float, folds: int, fold: int) -> None:
    if rows not in MODES:
        raise ValueError(f"train.rows: got {rows!r}, allowed: {', '.join(MODES)}")
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"train.row_fraction: got {fraction}, allowed: above 0, up to 1")
    if folds < 2 or not 0 <= fold < folds:
        raise ValueError(f"train.fold: got fold {fold} of {folds}, allowed: 0 to folds - 1 of at least 2 folds")
