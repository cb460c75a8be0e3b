"""What ties the strangers: spaces speak of fields that TrainConfig has, of augmentations that exist, of schedules that run."""

from __future__ import annotations

import dataclasses

import pytest

from search_spaces import SPACES
from search_spaces.augmentation import OP_WORDS, OPS, ops_of
from search_spaces.schedules import FAMILIES
from search_spaces.space import RandomTrial, Space, draw
from trainables.config import CHOICES, TrainConfig

FIELDS = {field.name for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_key_of_every_space_is_a_field(space: Space) -> None:
    assert set(space.keys) <= FIELDS


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_500_random_draws_build_a_valid_config(space: Space) -> None:
    for seed in range(500):
        drawn = draw(space, RandomTrial(seed))
        config = TrainConfig.from_dict(drawn)
        assert drawn.items() <= config.to_dict().items()


def one_step(space: Space, seeds: range, fixed: dict[str, object]) -> None:
    """Train one step on a handful of random images with each of some draws."""
    import numpy as np

    from trainables.data.dataset import ImageSet, Splits
    from trainables.image_model import ImageModel

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    part = ImageSet(images, np.arange(12) % 3, tuple(map(str, range(12))))
    splits = Splits(part, part, part, ("a", "b", "c"), "none", (0.5,) * 3, (0.25,) * 3)
    for seed in seeds:
        config = TrainConfig.from_dict({**fixed, **draw(space, RandomTrial(seed)), "epochs": 1, "device": "cpu"})
        outcome = ImageModel(config.replace(warmup_epochs=0), splits).step()
        assert np.isfinite(list(outcome.metrics.values())).all(), config


def test_draws_of_scratch_train() -> None:
    one_step(SPACES["scratch"], range(12), {})


def test_draws_of_finetune_train() -> None:
    one_step(SPACES["finetune"], range(3), {"model": "squeezenet1_1"})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fixed"), [("scratch", {}), ("finetune", {"model": "squeezenet1_1"})])
def test_500_draws_train_one_step(name: str, fixed: dict[str, object]) -> None:
    one_step(SPACES[name], range(500), fixed)


def test_both_packages_know_the_same_augmentation_sets() -> None:
    from trainables import augment

    assert set(augment.AUGMENTATIONS) == set(OPS)
    for name in [*OPS, "crop_flip+erase"]:
        assert augment.ops_of(name) == set(ops_of(name)), name
        assert augment.ops_of(name) <= set(OP_WORDS)


def test_both_packages_know_the_same_schedules() -> None:
    assert set(FAMILIES) == set(CHOICES["schedule"])


def test_every_model_of_the_scratch_space_is_built_by_name() -> None:
    from trainables.models import MODELS

    (options,) = [d.options for d in SPACES["scratch"].dimensions if d.name == "model"]  # type: ignore[union-attr]
    assert set(options) <= set(MODELS)
