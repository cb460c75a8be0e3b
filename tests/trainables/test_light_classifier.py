"""Linear classifiers on frozen features: what is fitted is what is served, saved, resumed and exported."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables import load_trainable
from trainables.checkpoint import save_weights
from trainables.config import TrainConfig
from trainables.data import load_splits
from trainables.data.dataset import DataConfig, Splits
from trainables.inference import load_inference
from trainables.light_classifier import HEADS, LightClassifier
from trainables.metrics import evaluate_probabilities


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_splits(DataConfig())
    train, rows = np.arange(400), np.arange(150)
    return dataclasses.replace(splits, train=splits.train.take(train), val=splits.val.take(rows), test=splits.test.take(rows))


def config(**values: Any) -> TrainConfig:
    return TrainConfig.from_dict({"model": "cnn_b", "width": 8, "epochs": 2, "device": "cpu", **values})


def test_each_step_is_a_classifier_and_random_features_already_do(digits: Splits) -> None:
    model = load_trainable("light")(config(), digits)
    outcomes = [model.step(), model.step()]
    assert [o.metrics["head/svm"] for o in outcomes] == [0.0, 1.0]
    assert [o.metrics["head/strength"] for o in outcomes] == [strength for _, strength in HEADS[:2]]
    assert [(o.epoch, o.done, o.stop_reason) for o in outcomes] == [(1, False, ""), (2, True, "budget")]
    for outcome in outcomes:
        assert outcome.metrics["val/accuracy"] > 0.85
        assert {"train/loss", "train/accuracy", "val/log_loss", "val/brier", "val/ece", "val/top5"} <= set(outcome.metrics)
    scores = evaluate_probabilities(model.predict("val"), digits.val.targets)
    assert outcomes[-1].metrics["val/log_loss"] == scores["log_loss"]
    with pytest.raises(ValueError, match=r"train\.epochs"):
        model.step()


def test_the_served_network_is_scikit_learns_classifier_on_its_features(digits: Splits) -> None:
    model = LightClassifier(config(), digits)
    model.step()
    features = model.features()
    kind, strength = HEADS[0]
    assert kind == "logistic"
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(features, digits.train.targets)
    np.testing.assert_allclose(model.predict("train"), theirs.predict_proba(features), atol=1e-4)


def test_only_the_last_layer_differs_from_the_backbone(digits: Splits) -> None:
    model = LightClassifier(config(), digits)
    before = model.weights()
    model.step()
    moved = {name for name, value in model.weights().items() if not torch.equal(value, before[name])}
    assert moved == {"head.1.weight", "head.1.bias"}


def test_it_is_reloaded_like_any_member(digits: Splits, tmp_path: Path) -> None:
    model = LightClassifier(config(model="cnn_c", tta="crops"), digits)
    model.step()
    save_weights(tmp_path / "w.safetensors", model.weights())
    module = load_inference(model.config, tmp_path / "w.safetensors", outputs=10, channels=1, pipeline=model.pipeline)
    with torch.no_grad():
        found = module(torch.from_numpy(digits.test.images)).numpy()
    np.testing.assert_allclose(found, model.predict("test"), atol=1e-5)


def test_resumed_is_uninterrupted(digits: Splits) -> None:
    whole = LightClassifier(config(), digits)
    first = [whole.step(), whole.step()][-1]
    half = LightClassifier(config(), digits)
    half.step()
    saved = io.BytesIO()
    torch.save(half.state(), saved)
    saved.seek(0)
    other = LightClassifier(config(), digits)
    other.load_state(torch.load(saved, weights_only=True))
    assert np.array_equal(other.predict("val"), half.predict("val"))
    second = other.step()
    assert np.array_equal(other.predict("val"), whole.predict("val"))
    assert second.metrics["val/log_loss"] == first.metrics["val/log_loss"]


@pytest.mark.parametrize(
    "values",
    [
        {"rows": "bootstrap"},
        {"class_weights": "balanced"},
        {"image_size": 12},
        {"seed": 1},
        {"model": "cnn_c"},
        {"tta": "crops"},
        {"precision": "bf16"},
    ],
    ids=lambda values: "-".join(values),
)
def test_its_knobs_are_felt(digits: Splits, values: dict[str, Any]) -> None:
    uneven = dataclasses.replace(digits, train=digits.train.take(np.flatnonzero(digits.train.targets > 0)[:150]))
    plain, turned = LightClassifier(config(), uneven), LightClassifier(config(**values), uneven)
    plain.step()
    turned.step()
    assert not np.array_equal(plain.predict("val"), turned.predict("val"))


def test_what_it_cannot_do_is_refused(digits: Splits) -> None:
    numbers = dataclasses.replace(digits, classes=())
    with pytest.raises(ValueError, match=r"train\.task.*classification"):
        LightClassifier(config(task="regression"), numbers)
    with pytest.raises(ValueError, match="ends in a Conv2d"):
        LightClassifier(config(model="squeezenet1_1", image_size=32), digits)
