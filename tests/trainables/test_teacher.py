"""A student trains towards its teacher: the loss in closed form, one-hot answers are the labels, unfit files are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from trainables.config import TrainConfig, config_hash
from trainables.data import load_splits
from trainables.data.dataset import DataConfig, Splits
from trainables.image_model import ImageModel
from trainables.teacher import teacher_of


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_splits(DataConfig())
    rows = np.arange(90)
    return dataclasses.replace(splits, train=splits.train.take(rows), val=splits.val.take(rows))


@pytest.fixture(scope="module")
def taught(digits: Splits) -> NDArray[np.float32]:
    logits = np.random.default_rng(0).normal(size=(len(digits.train), 10))
    powers = np.exp(logits)
    found: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def student(splits: Splits, file: Path | None, array: Any = None, **changes: Any) -> ImageModel:
    if file is not None:
        np.save(file, array)
    values = {"model": "cnn_a", "width": 4, "epochs": 2, "device": "cpu", "batch_size": 30, **changes}
    return ImageModel(TrainConfig(**values, teacher_file=str(file) if file else ""), splits)


def test_the_loss_is_the_teachers_entropy_and_the_divergence_from_it(
    digits: Splits, taught: NDArray[np.float32], tmp_path: Path
) -> None:
    model = student(digits, tmp_path / "t.npy", taught)
    model.begin_epoch()
    batch = next(model.batches())
    with torch.no_grad():
        outputs = model.model.eval()(batch.images)
    found = model.rules.loss(outputs, batch.targets).numpy()
    order = model.portion.order(0)[0].tensor_split(model.steps)[0].numpy()
    q, log_p = taught[order].astype(float), log_softmax(outputs.numpy().astype(float), axis=1)
    entropy, divergence = -(q * np.log(q)).sum(axis=1), (q * (np.log(q) - log_p)).sum(axis=1)
    np.testing.assert_allclose(found, entropy + divergence, rtol=1e-4)
    np.testing.assert_array_equal(batch.labels.numpy(), digits.train.targets[order], "scores of the pass are the labels'")


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4}, {"loss": "focal"}, {"rows": "bootstrap"}])
def test_certain_and_right_answers_are_the_labels(digits: Splits, tmp_path: Path, changes: dict[str, Any]) -> None:
    answers = np.eye(10, dtype=np.float32)[digits.train.targets]
    models = [student(digits, tmp_path / "t.npy", answers, **changes), student(digits, None, **changes)]
    losses = [model.step().metrics["train/loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in models[0].weights().items():
        torch.testing.assert_close(value, models[1].weights()[name], rtol=1e-4, atol=1e-5)


def test_cached_features_carry_the_teachers_answers(digits: Splits, taught: NDArray[np.float32], tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    from trainables.checkpoint import save_weights

    save_weights(weights, student(digits, None).weights())
    model = student(digits, tmp_path / "t.npy", taught, weights=str(weights), finetune_depth="head")
    assert model.features is not None
    model.begin_epoch()
    batch = next(model.batches())
    order = model.portion.order(0)[0].tensor_split(model.steps)[0].numpy()
    np.testing.assert_array_equal(batch.targets.numpy(), taught[order])


def test_a_regression_is_taught_in_the_targets_units(digits: Splits, tmp_path: Path) -> None:
    def numbers(part: Any) -> Any:
        return dataclasses.replace(part, targets=500.0 + 7.0 * part.targets)

    splits = dataclasses.replace(digits, train=numbers(digits.train), val=numbers(digits.val), classes=())
    values = splits.train.targets.astype(np.float64)
    models = [student(splits, tmp_path / "t.npy", values, task="regression"), student(splits, None, task="regression")]
    losses = [model.step().metrics["train/loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 10), 0.1), r"holds float64 \(3, 10\), expected finite floats \(90, 10\)"),
        (np.ones((90, 10)), "no probabilities"),
        (np.full((90, 10), np.nan), "expected finite"),
        (np.zeros((90, 10), dtype=np.int64), "holds int64"),
    ],
)
def test_what_is_no_teacher_is_named(array: Any, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ValueError, match=message):
        teacher_of(TrainConfig(teacher_file=str(tmp_path / "t.npy")), 90, 10)


def test_a_file_that_is_not_there_is_named_and_no_file_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train.teacher_file: .*gone.npy cannot be read"):
        teacher_of(TrainConfig(teacher_file=str(tmp_path / "gone.npy")), 90, 10)
    assert teacher_of(TrainConfig(), 90, 10) is None


def test_a_student_is_another_configuration_than_its_parent() -> None:
    assert config_hash(TrainConfig()) != config_hash(TrainConfig(teacher_file="t.npy"))
    assert config_hash(TrainConfig()) == "cc3dd5cadf25", "runs of before have this one in their records"
