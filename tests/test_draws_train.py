"""The property that makes a search safe: any draw of any space is a valid config that trains one step to finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import SPACES
from search_spaces.space import RandomTrial, draw
from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.image_model import ImageModel

IMAGES, CLASSES = 10, ("a", "b", "c")
SMALL: dict[str, dict[str, Any]] = {"scratch": {}, "finetune": {"model": "cifar_resnet", "width": 4, "depth": 8}}
"""What stands for the backbone, which the fine-tuning space leaves to the experiment."""
DRAWS = [(name, seed) for name in SPACES for seed in range(12)]


def splits_of(seed: int) -> Splits:
    """Return random images of 8 to 16 pixels, grey or in colour, that depend on the seed alone."""
    rng = np.random.default_rng(seed)
    side, channels = int(rng.choice([8, 12, 16])), int(rng.choice([1, 3]))
    images = rng.integers(0, 256, (IMAGES, side, side, channels), dtype=np.uint8)
    part = ImageSet(images, np.arange(IMAGES) % len(CLASSES), tuple(map(str, range(IMAGES))))
    return Splits(part, part, part, CLASSES, f"draw-{seed}", (0.5,) * channels, (0.25,) * channels)


def trains_one_step(name: str, seed: int) -> None:
    """Draw, build the config, train the one step that so few images take, and look at everything that came of it."""
    drawn = draw(SPACES[name], RandomTrial(seed))
    config = TrainConfig.from_dict({**SMALL[name], **drawn, "device": "cpu", "seed": seed})
    model = ImageModel(config, splits_of(seed))
    assert model.steps == 1
    before = model.weights()
    outcome = model.step()
    assert outcome.epoch == 1
    assert not [key for key, value in outcome.metrics.items() if not np.isfinite(value)], config
    probabilities = model.predict("val")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    after = model.weights()
    assert all(bool(torch.isfinite(value).all()) for value in after.values()), config
    if not config.warmup_epochs:  # a warm-up's first step may be at rate 0
        assert any(not torch.equal(value, after[key]) for key, value in before.items()), config


@pytest.mark.parametrize(("name", "seed"), DRAWS)
def test_a_draw_trains_one_step(name: str, seed: int) -> None:
    trains_one_step(name, seed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", SPACES)
def test_500_draws_train_one_step(name: str) -> None:
    for seed in range(500):
        trains_one_step(name, seed)
