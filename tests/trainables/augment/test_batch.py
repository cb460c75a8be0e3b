"""augment_batch as a whole: keyed by (seed, epoch, sample), off at magnitude 0, and never part of the evaluation path."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from trainables.augment import AUGMENTATIONS, augment_batch, to_float

NAMES = [*AUGMENTATIONS, "crop_flip+rotate+colour", "crop_flip+randaugment+erase"]


def test_to_float_equals_torchvision_and_takes_no_seed(images: Tensor) -> None:
    theirs = TF.to_dtype(images.permute(0, 3, 1, 2), torch.float32, scale=True)
    torch.testing.assert_close(to_float(images), theirs, atol=1e-7, rtol=0)
    assert to_float(images).is_contiguous()
    assert set(inspect.signature(to_float).parameters) == {"images", "dtype"}


@pytest.mark.parametrize("name", NAMES)
def test_draws_do_not_depend_on_batch_order_or_size(name: str, images: Tensor) -> None:
    rows = torch.tensor([40, 3, 17, 8, 99, 5])
    whole = augment_batch(images, name=name, seed=5, epoch=2, sample_index=rows)
    order = torch.tensor([5, 0, 3])
    part = augment_batch(images[order], name=name, seed=5, epoch=2, sample_index=rows[order])
    torch.testing.assert_close(part, whole[order], atol=1e-6, rtol=0)
    assert whole.shape == (6, 3, 16, 20)
    assert whole.min() >= 0
    assert whole.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_surrounding_autocast_changes_nothing(name: str, images: Tensor) -> None:
    rows = torch.arange(len(images))
    plain = augment_batch(images, name=name, seed=1, epoch=0, sample_index=rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment_batch(images, name=name, seed=1, epoch=0, sample_index=rows), plain)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_seed_and_epoch_change_the_draws_and_magnitude_zero_is_off(name: str, images: Tensor) -> None:
    many = images.repeat(6, 1, 1, 1)
    rows = torch.arange(len(many))

    def run(seed: int = 1, epoch: int = 0, magnitude: float = 1.0) -> Tensor:
        return augment_batch(many, name=name, magnitude=magnitude, seed=seed, epoch=epoch, sample_index=rows)

    first = run()
    assert torch.equal(run(), first)
    assert not torch.equal(run(seed=2), first)
    assert not torch.equal(run(epoch=1), first)
    assert not torch.equal(first, to_float(many))
    assert torch.equal(run(magnitude=0.0), to_float(many))


@pytest.mark.parametrize("name", ["translate", "rotate", "scale", "colour", "geometric", "randaugment", "erase", "crop_flip"])
def test_magnitude_scales_the_change(name: str) -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).view(1, 1, 32, 1).expand(200, 32, 32, 3).contiguous()

    def change(magnitude: float) -> float:
        result = augment_batch(ramp, name=name, magnitude=magnitude, seed=0, epoch=0, sample_index=torch.arange(200))
        return (result - to_float(ramp)).abs().mean().item()

    assert change(0.3) < change(1.0) < change(2.0)


def test_a_set_draws_the_same_alone_and_in_company(images: Tensor) -> None:
    options = {"seed": 3, "epoch": 1, "sample_index": torch.arange(6)}
    flipped = augment_batch(images, name="crop_flip", **options)
    erased = augment_batch(images, name="crop_flip_erase", **options)
    same = (flipped == erased).float().mean(dim=(1, 2, 3))
    assert same.min() > 0.7


def test_one_seed_a_sample_serves_packed_trials(images: Tensor) -> None:
    seeds = torch.tensor([1, 1, 1, 2, 2, 2])
    rows = torch.tensor([0, 1, 2, 0, 1, 2])
    packed = augment_batch(images[rows], name="crop_flip_colour", seed=seeds, epoch=4, sample_index=rows)
    for place, seed in enumerate((1, 2)):
        alone = augment_batch(images[:3], name="crop_flip_colour", seed=seed, epoch=4, sample_index=rows[:3])
        torch.testing.assert_close(packed[3 * place : 3 * place + 3], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_grey_and_tiny_images_go_through(name: str, channels: int) -> None:
    tiny = torch.randint(0, 256, (4, 8, 8, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = augment_batch(tiny, name=name, magnitude=2.0, seed=0, epoch=0, sample_index=torch.arange(4))
    assert result.shape == (4, channels, 8, 8)
    assert torch.isfinite(result).all()


def test_stored_images_are_never_written(images: Tensor) -> None:
    stored = images.clone()
    for name in NAMES:
        augment_batch(images, name=name, seed=0, epoch=0, sample_index=torch.arange(6))
    assert torch.equal(images, stored)
