"""Own transforms: called one image at a time by keyword, seeded by (trial, epoch, sample), checked on return."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.augment import augment_batch, ops_of


class Pipeline:
    """Looks as an Albumentations pipeline does: keyword `image`, a dict back, its own generator."""

    def set_random_seed(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def __call__(self, *, image: np.ndarray[Any, Any]) -> dict[str, Any]:
        return {"image": np.roll(image, self.generator.integers(1, 9), axis=1)}


def by_global(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    image += np.uint8(random.randrange(1, 50) + np.random.randint(1, 50))
    return image


def by_seed(image: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    return np.bitwise_xor(image, np.uint8(seed % 255 + 1))


by_seed.ops = ("invert",)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _module() -> Iterator[None]:
    module = types.ModuleType("own_transforms_for_test")
    module.__dict__.update(pipeline=Pipeline(), by_global=by_global, by_seed=by_seed, wrong=lambda image: image[:2], number=3)
    sys.modules[module.__name__] = module
    yield
    del sys.modules[module.__name__]


def run(name: str, images: Tensor, rows: Tensor, seed: int = 1, epoch: int = 0) -> Tensor:
    return augment_batch(images[rows], name=f"own_transforms_for_test:{name}", seed=seed, epoch=epoch, sample_index=rows)


@pytest.mark.parametrize("name", ["pipeline", "by_global", "by_seed"])
def test_draws_depend_on_sample_epoch_and_seed_alone(name: str, images: Tensor) -> None:
    stored = images.clone()
    everything = run(name, images, torch.arange(6))
    assert torch.equal(run(name, images, torch.tensor([4, 2])), everything[[4, 2]])
    assert not torch.equal(run(name, images, torch.arange(6), epoch=1), everything)
    assert not torch.equal(run(name, images, torch.arange(6), seed=2), everything)
    assert torch.equal(images, stored)


def test_global_generators_are_put_back(images: Tensor) -> None:
    before, before_numpy = random.getstate(), np.random.get_state()[1].copy()
    run("by_global", images, torch.arange(6))
    assert random.getstate() == before
    assert np.array_equal(np.random.get_state()[1], before_numpy)


def test_composes_with_sets_and_tells_its_operations() -> None:
    assert ops_of("flip+own_transforms_for_test:by_seed") == {"hflip", "invert"}
    assert ops_of("own_transforms_for_test:pipeline") == frozenset()


def test_wrong_results_and_names_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"must return uint8 \(16, 20, 3\).*got uint8 \(2, 20, 3\)"):
        run("wrong", images, torch.arange(6))
    with pytest.raises(ValueError, match="is a int, not a callable"):
        run("number", images, torch.arange(6))
    with pytest.raises(ValueError, match="cannot load 'no_such_module_here:f'"):
        augment_batch(images, name="no_such_module_here:f", seed=0, epoch=0, sample_index=torch.arange(6))
