"""What a trained model answers: in order, whatever the batch, never augmented, in the data's own units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from trainings import config, same, train

from trainables.data.dataset import Splits
from trainables.image_model import ImageModel
from trainables.metrics import evaluate_probabilities


def test_predictions_are_probabilities_in_dataset_order_whatever_the_batch(few: Splits) -> None:
    model, outcomes = train(config(eval_batch_size=7), few, 2)
    for split in ("train", "val", "test"):
        found = model.predict(split)
        assert found.shape == (len(few.part(split)), 10)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    scores = evaluate_probabilities(model.predict("val"), few.val.targets)
    assert {f"val/{k}": v for k, v in scores.items()}.items() <= outcomes[-1].metrics.items()
    other = ImageModel(config(eval_batch_size=64), few)
    other.load_state(model.state())
    np.testing.assert_allclose(other.predict("val"), model.predict("val"), rtol=1e-4, atol=1e-6)
    reversed_rows = few.val.take(np.arange(len(few.val))[::-1].copy())
    mirrored = ImageModel(config(), dataclasses.replace(few, val=reversed_rows))
    mirrored.load_state(model.state())
    np.testing.assert_allclose(mirrored.predict("val")[::-1], model.predict("val"), rtol=1e-4, atol=1e-6)


def test_evaluation_sees_no_augmentation(few: Splits) -> None:
    """With a learning rate of zero the strongest augmentation changes no prediction."""
    plain, _ = train(config(lr=0.0, bn="frozen"), few, 1)
    wild, _ = train(config(lr=0.0, bn="frozen", augmentation="crop_flip", mixup=1.0), few, 1)
    assert np.array_equal(plain.predict("val"), wild.predict("val"))
    assert np.array_equal(plain.predict("train"), wild.predict("train"))


def test_test_time_augmentation_is_in_the_scores_and_reported_beside_the_plain_ones(few: Splits) -> None:
    plain, without = train(config(), few, 1)
    viewed, outcomes = train(config(tta="crops"), few, 1)
    assert not np.array_equal(plain.predict("val"), viewed.predict("val"))
    metrics = outcomes[-1].metrics
    assert metrics["val_plain/accuracy"] == without[-1].metrics["val/accuracy"]
    scores = evaluate_probabilities(viewed.predict("val"), few.val.targets)
    assert metrics["val/log_loss"] == scores["log_loss"]
    assert same(plain.weights(), viewed.weights())


@pytest.mark.parametrize("loss", ["auto", "mae", "huber"])
def test_regression_learns_values_in_their_own_units(values: Splits, loss: str) -> None:
    model, outcomes = train(config(task="regression", loss=loss, epochs=8, dropout=0.0, batch_size=32), values)
    metrics = outcomes[-1].metrics
    found = model.predict("val")
    assert found.shape == (100, 1)
    assert metrics["val/r2"] > 0.5
    assert metrics["val/rmse"] == pytest.approx(float(np.sqrt(((found[:, 0] - values.val.targets) ** 2).mean())), rel=1e-5)
    assert 0.1 < metrics["train/rmse"] < 20
    assert metrics["train/mae"] <= metrics["train/rmse"]
    assert "val/accuracy" not in metrics
    assert model.weights()["target.shift"].item() == pytest.approx(values.train.targets.mean())
