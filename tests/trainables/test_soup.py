"""Soups: the mean of weights, exact where the networks are equal, BatchNorm measured anew on the training images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.augment import to_float
from trainables.checkpoint import save_weights
from trainables.config import TrainConfig
from trainables.data import DataConfig, load_splits
from trainables.image_model import ImageModel
from trainables.inference import prepare
from trainables.models import input_pipeline
from trainables.soup import average_weights, mix

CONFIG = TrainConfig(model="cnn_c", width=4, epochs=1, device="cpu", dropout=0.0, norm="batch")
DATA = DataConfig(source="digits", limit=200, cache="memory")


def test_the_mean_is_taken_of_floats_and_the_first_of_counters() -> None:
    states = [{"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(4)}, {"w": torch.tensor([3.0, 5.0]), "n": torch.tensor(9)}]
    mean = average_weights(states)
    assert torch.equal(mean["w"], torch.tensor([2.0, 4.0]))
    assert int(mean["n"]) == 4


def test_networks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape, got 2 with 2"):
        average_weights([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])


def test_soup_of_one_network_twice_has_its_weights_and_fresh_statistics(tmp_path: Path) -> None:
    splits = load_splits(DATA)
    model = ImageModel(CONFIG, splits)
    model.step()
    save_weights(tmp_path / "a.safetensors", model.weights())
    soup = mix(CONFIG, [tmp_path / "a.safetensors"] * 2, splits).weights
    own = model.weights()
    parameters = {name for name, _ in model.model.named_parameters()}
    assert all(torch.allclose(soup[name], own[name]) for name in parameters)
    images = prepare(to_float(torch.from_numpy(splits.train.images[:])), input_pipeline(CONFIG, splits))
    conv = next(module for module in model.model.modules() if isinstance(module, torch.nn.Conv2d))
    first = next(name for name in own if name.endswith("running_mean"))
    with torch.no_grad():
        expected = conv(images).mean(dim=(0, 2, 3))
    assert torch.allclose(soup[first], expected, atol=0.02)
