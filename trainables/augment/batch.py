"""The two ways from stored uint8 images to what a model takes: `augment_batch` for training, `to_float` for everything else."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.augment.colour import COLOUR_OPS, draw_colour
from trainables.augment.draws import Draws
from trainables.augment.filters import draw_blur, draw_erase, draw_noise
from trainables.augment.own import apply_own
from trainables.augment.policies import POLICIES
from trainables.augment.sets import AugmentationSet, parse_set
from trainables.augment.shift import draw_shift_and_flip
from trainables.augment.warp import WARP_OPS, draw_warp


def to_float(images: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 [B, H, W, C] as [B, C, H, W] in [0, 1]: the way of validation and test, where nothing can be random."""
    return images.permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format).div_(255.0)


def augment_batch(
    images: Tensor,
    *,
    name: str,
    magnitude: float = 1.0,
    seed: int | Tensor,
    epoch: int | Tensor,
    sample_index: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return training images uint8 [B, H, W, C] as augmented [B, C, H, W] in [0, 1], on their own device.

    `name` is a key of AUGMENTATIONS, several joined by "+", or "module:callable". `magnitude` scales every strength; 1 is the
    usual one, 0 changes nothing. `sample_index` [B], or of any shape that holds B, are rows of the training split: with the
    seed and the epoch they alone decide what happens to a sample; a surrounding autocast changes nothing.
    """
    chosen = parse_set(name)
    if magnitude == 0.0:
        return to_float(images, dtype=dtype)
    draws = Draws(seed, epoch, sample_index.to(images.device))
    with torch.autocast(images.device.type, enabled=False):
        return _apply(images, chosen, draws, magnitude=magnitude, dtype=dtype)


def _apply(images: Tensor, chosen: AugmentationSet, draws: Draws, *, magnitude: float, dtype: torch.dtype) -> Tensor:
    """Apply every operation of a set, each on the draws of its own."""
    for own in chosen.own:
        images = apply_own(images, own, draws)
    if chosen.ops & {"crop", "hflip"}:
        images = draw_shift_and_flip(images, draws, ops=chosen.ops, magnitude=magnitude)
    result = to_float(images, dtype=dtype)
    for policy in chosen.policies:
        result = POLICIES[policy](result, draws, magnitude)
    if chosen.ops & WARP_OPS:
        result = draw_warp(result, draws, ops=chosen.ops, magnitude=magnitude)
    if chosen.ops & COLOUR_OPS:
        result = draw_colour(result, draws, ops=chosen.ops, magnitude=magnitude)
    if "blur" in chosen.ops:
        result = draw_blur(result, draws, magnitude=magnitude)
    if "noise" in chosen.ops:
        result = draw_noise(result, draws, magnitude=magnitude)
    if "erase" in chosen.ops:
        result = draw_erase(result, draws, magnitude=magnitude)
    return result
