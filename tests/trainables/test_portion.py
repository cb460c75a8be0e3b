"""A portion's rows, labels, aims and orders are those that its configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from random_splits import random_splits

from trainables.config import TrainConfig
from trainables.data.rows import rows_of
from trainables.feed import balanced, shuffled
from trainables.portion import choose_portion

BASE = TrainConfig(batch_size=16, seed=3)
CPU = torch.device("cpu")


def test_rows_labels_and_steps_are_those_of_the_config() -> None:
    splits, config = random_splits(40, 6), BASE.replace(rows="bootstrap", row_seed=1)
    portion = choose_portion(config, splits, CPU)
    assert np.array_equal(portion.rows, rows_of(config, splits.train.targets))
    assert np.array_equal(portion.labels.numpy(), splits.train.targets[portion.rows])
    assert portion.aims is portion.labels
    assert (portion.steps, portion.shift, portion.scale) == (3, 0.0, 1.0)


def test_values_are_centred_and_scaled_and_a_teachers_answers_with_them(tmp_path: Path) -> None:
    splits = random_splits(40, 6)
    values = np.linspace(3.0, 9.0, 40)
    splits = dataclasses.replace(splits, train=dataclasses.replace(splits.train, targets=values), classes=())
    np.save(tmp_path / "teacher.npy", values.astype(np.float32))
    portion = choose_portion(BASE.replace(task="regression", teacher_file=str(tmp_path / "teacher.npy")), splits, CPU)
    assert (portion.shift, portion.scale) == (values.mean(), values.std())
    np.testing.assert_allclose(portion.labels.numpy(), (values - values.mean()) / values.std())
    np.testing.assert_allclose(portion.aims.numpy(), portion.labels.numpy(), atol=1e-6)


def test_an_order_is_shuffled_or_balanced_and_names_its_draws() -> None:
    splits = random_splits(40, 6)
    positions, names = choose_portion(BASE, splits, CPU).order(2)
    assert names is positions
    assert torch.equal(positions, shuffled(40, seed=3, epoch=2))
    positions, names = choose_portion(BASE.replace(sampler="balanced"), splits, CPU).order(2)
    assert torch.equal(positions, balanced(splits.train.targets, seed=3, epoch=2))
    assert torch.equal(names, torch.arange(40))
