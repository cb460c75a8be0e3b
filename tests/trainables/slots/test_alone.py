"""Models one after another as arrays of one: each equals its solo run, goes into a packed array and back, and is forgotten."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from random_splits import random_splits
from torch import nn

from trainables.config import TrainConfig
from trainables.contract import NonFiniteLoss, Outcome
from trainables.data.dataset import Splits
from trainables.image_model import ImageModel
from trainables.slots.alone import Lone, Serially
from trainables.slots.array import SlotArray
from trainables.slots.pool import Packed, Turns
from trainables.slots.stacked import stack

CONFIGS = [
    TrainConfig(model="cnn_c", width=4, batch_size=8, epochs=6, precision="fp64", device="cpu", optimizer="adamw",
                lr=0.01 * (s + 1), seed=s, dropout=0.3, schedule="cosine", clip_norm=0.5 * s)
    for s in range(2)
]  # fmt: skip


@pytest.fixture(scope="module")
def splits() -> Splits:
    return random_splits(26, 8)


def lone() -> Lone:
    """Replay by running again."""
    return Lone(partial(SlotArray, build=stack, capture=lambda run: run))


def gap(model: ImageModel, config: TrainConfig, splits: Splits) -> float:
    """Return the largest difference of a model's weights from those of the same number of solo epochs."""
    solo = ImageModel(config, splits)
    for _ in range(model.epoch):
        solo.step()
    pairs = zip(model.model.state_dict().values(), solo.model.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_a_model_as_an_array_of_one_equals_its_solo_run(splits: Splits) -> None:
    models = [ImageModel(config, splits) for config in CONFIGS]
    pool = Turns(lone())
    for model in models:
        pool.join(model)
    for model in (*models, models[1]):
        assert isinstance(pool.step(model), Outcome)
    assert [model.epoch for model in models] == [1, 2]
    for model, config in zip(models, CONFIGS, strict=True):
        assert gap(model, config, splits) < 1e-10


def test_models_go_from_arrays_of_one_to_a_packed_one_and_back(splits: Splits) -> None:
    models = [ImageModel(config, splits) for config in CONFIGS]
    alone, pays = lone(), [False, True, False, True]
    train = Packed(lambda _: pays[models[0].epoch], alone=alone)
    held = []
    for _ in pays:
        train(models)
        held.append(len(alone._arrays))
    assert held == [2, 0, 2, 0]
    for model, config in zip(models, CONFIGS, strict=True):
        assert model.epoch == 4 and gap(model, config, splits) < 1e-10


def test_one_that_leaves_its_turns_is_forgotten_and_the_others_keep_their_graphs(splits: Splits) -> None:
    models = [ImageModel(config, splits) for config in CONFIGS]
    alone = lone()
    pool = Turns(alone)
    for model in models:
        pool.join(model)
        pool.step(model)
    kept = alone._arrays[models[1]]
    pool.leave(models[0])
    assert alone._arrays == {models[1]: kept}


def test_a_model_whose_layers_allow_no_array_trains_by_its_own_steps(splits: Splits, caplog: pytest.LogCaptureFixture) -> None:
    model = ImageModel(CONFIGS[0], splits)
    model.model.add_module("noise", nn.AlphaDropout(0.1))
    alone = lone()
    assert [isinstance(ending, Outcome) for _ in range(2) for ending in alone([model])] == [True, True]
    assert caplog.text.count("noise: AlphaDropout") == 1 and alone._arrays == {model: None}


@pytest.mark.parametrize("way", [Serially, lone])
def test_a_loss_that_is_no_number_is_raised_to_its_own_trial(splits: Splits, way: Any) -> None:
    model = ImageModel(CONFIGS[0], splits)
    with torch.no_grad():
        next(model.model.parameters()).fill_(float("inf"))
    pool = Turns(way())
    pool.join(model)
    with pytest.raises(NonFiniteLoss):
        pool.step(model)
