"""What tests of whole trainings share: a small config, a training, and whether two states are the same."""

from __future__ import annotations

from typing import Any

import torch

from trainables.config import TrainConfig
from trainables.contract import Outcome
from trainables.data.dataset import Splits
from trainables.image_model import ImageModel


def config(**values: Any) -> TrainConfig:
    return TrainConfig.from_dict({"model": "cnn_c", "width": 4, "epochs": 3, "lr": 3e-3, "device": "cpu", **values})


def train(settings: TrainConfig, splits: Splits, epochs: int = 0) -> tuple[ImageModel, list[Outcome]]:
    model = ImageModel(settings, splits)
    return model, [model.step() for _ in range(epochs or settings.epochs)]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(value, second[name]) for name, value in first.items())
