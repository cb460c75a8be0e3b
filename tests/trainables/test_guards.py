"""Each guard passes what is right and catches the mistake it is there for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables import guards
from trainables.config import TrainConfig
from trainables.data import load_splits
from trainables.data.dataset import DataConfig, Splits
from trainables.image_model import ImageModel
from trainables.inference import InferenceModel

CONFIG = TrainConfig(model="cnn_c", width=4, device="cpu")


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_splits(DataConfig())
    return dataclasses.replace(splits, train=splits.train.take(np.arange(300)), val=splits.val.take(np.arange(200)))


@pytest.fixture(scope="module")
def images(digits: Splits) -> Tensor:
    return torch.from_numpy(digits.val.images[:32])


class Wrong(nn.Module):
    """A network on uint8 images with a mistake of the test's choice in its forward."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4, track_running_stats=mistake != "batch_statistics")
        self.head = nn.Linear(144, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images.permute(0, 3, 1, 2).float() / 255)
        if self.mistake == "always_training":
            x = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        else:
            x = self.norm(x)
        if self.mistake == "dropout":
            x = F.dropout(x, 0.5)
        return self.head(x.flatten(1)).softmax(1)


@pytest.mark.parametrize("values", [{}, {"model": "cifar_resnet", "depth": 8, "finetune_depth": "last_1"}, {"tta": "full"}])
def test_our_own_models_pass_all_of_them(digits: Splits, values: dict[str, object]) -> None:
    results = guards.run_guards(CONFIG.replace(**values), digits)
    assert len({r.name for r in results}) == 5
    assert [r for r in results if not r.ok] == []


def test_a_model_that_learns_statistics_in_evaluation_is_caught(images: Tensor) -> None:
    assert guards.restores_mode(Wrong("none"), images).ok
    found = guards.restores_mode(Wrong("always_training"), images)
    assert not found.ok
    assert "norm.running_mean" in found.message


def test_randomness_in_evaluation_is_caught(images: Tensor) -> None:
    assert guards.deterministic(Wrong("none"), images).ok
    found = guards.deterministic(Wrong("dropout"), images)
    assert not found.ok
    assert "random" in found.message


def test_freezing_weights_alone_is_caught(digits: Splits) -> None:
    model = ImageModel(CONFIG, digits)
    config = CONFIG.replace(finetune_depth="head")
    batch = next(model.batches()).images
    assert guards.holds_frozen_norms(model.model, config, batch).ok

    def naive(net: nn.Module, _: TrainConfig) -> None:
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith("head"))

    found = guards.holds_frozen_norms(model.model, config, batch, freeze=naive)
    assert not found.ok
    assert "block1.1" in found.message


@pytest.mark.parametrize(("mean", "std"), [((10.0,), (0.3,)), ((0.3,), (80.0,)), ((0.3,), (0.001,))])
def test_statistics_of_other_data_are_caught(digits: Splits, mean: tuple[float], std: tuple[float]) -> None:
    pipeline = ImageModel(CONFIG, digits).pipeline
    assert guards.normalisation_fits(pipeline, CONFIG, digits).ok
    found = guards.normalisation_fits(dataclasses.replace(pipeline, mean=mean, std=std), CONFIG, digits)
    assert not found.ok
    assert "expected about 0 and 1" in found.message


def test_a_pipeline_that_is_not_the_weights_is_caught(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = dataclasses.replace(ImageModel(CONFIG, digits).pipeline, mean=(0.5,), std=(0.25,))
    monkeypatch.setattr(guards, "input_pipeline", lambda *_: pipeline)
    config = CONFIG.replace(weights="default")
    assert guards.normalisation_fits(pipeline, config, digits).ok
    found = guards.normalisation_fits(dataclasses.replace(pipeline, std=(1.0,)), config, digits)
    assert not found.ok
    assert "std" in found.message


def test_batch_statistics_in_evaluation_are_caught(digits: Splits) -> None:
    model = ImageModel(CONFIG, digits)
    assert guards.batch_mates_do_not_matter(model.inference(), digits.val).ok
    assert isinstance(model.inference(), InferenceModel)
    found = guards.batch_mates_do_not_matter(Wrong("batch_statistics"), digits.val)
    assert not found.ok
    assert "batch" in found.message
