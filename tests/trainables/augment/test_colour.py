"""Colour factors and hue equal torchvision's functional operations, alone and (where nothing is clamped) in sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from trainables.augment.colour import draw_colour, jitter, shift_hue
from trainables.augment.draws import Draws


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
def test_factor_equals_torchvision(floats: Tensor, operation: str, factor: float) -> None:
    options: dict[str, Any] = {operation: torch.full((len(floats),), factor)}
    theirs = torch.stack([getattr(TF, f"adjust_{operation}")(image, factor) for image in floats])
    torch.testing.assert_close(jitter(floats, **options), theirs, atol=2e-6, rtol=0)


def test_one_matrix_equals_the_sequence_where_nothing_is_clamped(floats: Tensor) -> None:
    mild = 0.3 + 0.4 * floats
    factors = torch.linspace(0.9, 1.1, len(mild))
    ours = jitter(mild, brightness=factors, contrast=factors.flip(0), saturation=factors)
    for row, image in enumerate(mild):
        theirs = TF.adjust_brightness(image, factors[row].item())
        theirs = TF.adjust_contrast(theirs, factors.flip(0)[row].item())
        theirs = TF.adjust_saturation(theirs, factors[row].item())
        torch.testing.assert_close(ours[row], theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shift", [-0.5, -0.13, 0.0, 0.02, 0.4])
def test_hue_equals_torchvision(floats: Tensor, shift: float) -> None:
    images = floats.clone()
    images[0] = 0.5  # grey has no hue
    ours = shift_hue(images, torch.full((len(images),), shift))
    torch.testing.assert_close(ours, TF.adjust_hue(images, shift), atol=3e-6, rtol=0)


def test_grey_images_take_brightness_and_contrast_only(floats: Tensor) -> None:
    grey = floats[:, :1]
    half = torch.full((len(grey),), 0.5)
    theirs = torch.stack([TF.adjust_contrast(image, 0.5) for image in grey])
    torch.testing.assert_close(jitter(grey, contrast=half, saturation=half), theirs, atol=2e-6, rtol=0)
    everything = frozenset({"brightness", "contrast", "saturation", "hue"})
    draws = Draws(seed=0, epoch=0, sample_index=torch.arange(len(grey)))
    assert draw_colour(grey, draws, ops=everything, magnitude=1.0).shape == grey.shape


def test_strength_is_a_tenth_at_magnitude_one() -> None:
    flat = torch.full((500, 3, 2, 2), 0.5)
    draws = Draws(seed=0, epoch=0, sample_index=torch.arange(500))
    changed = draw_colour(flat, draws, ops=frozenset({"brightness"}), magnitude=1.0)[:, 0, 0, 0] / 0.5
    assert 0.9 <= changed.min() < 0.91
    assert 1.09 < changed.max() <= 1.1
