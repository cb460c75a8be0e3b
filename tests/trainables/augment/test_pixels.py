"""Pixel operations of the policies equal torchvision's functional operations on the same parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from trainables.augment.pixels import autocontrast, equalize, invert, posterize, sharpen, solarize


def test_posterize(floats: Tensor) -> None:
    bits = torch.tensor([1, 2, 4, 6, 8, 3])
    theirs = torch.stack([TF.posterize(image, int(bit)) for image, bit in zip(floats, bits, strict=True)])
    torch.testing.assert_close(posterize(floats, bits), theirs, atol=1e-6, rtol=0)


def test_solarize(floats: Tensor) -> None:
    threshold = torch.linspace(0.0, 1.0, len(floats))
    theirs = torch.stack([TF.solarize(image, float(value)) for image, value in zip(floats, threshold, strict=True)])
    torch.testing.assert_close(solarize(floats, threshold), theirs)


def test_invert(floats: Tensor) -> None:
    torch.testing.assert_close(invert(floats), TF.invert(floats))


def test_autocontrast(floats: Tensor) -> None:
    images = 0.2 + 0.5 * floats
    images[1, 0] = 0.4  # a flat channel stays
    torch.testing.assert_close(autocontrast(images), TF.autocontrast(images), atol=1e-6, rtol=0)


def test_equalize() -> None:
    images = torch.rand(3, 3, 40, 50, generator=torch.Generator().manual_seed(0)) ** 3
    images[1] = 0.3  # nothing to flatten
    stored = (images * 255).round() / 255
    torch.testing.assert_close(equalize(stored), TF.equalize(stored), atol=1e-6, rtol=0)


def test_sharpen(floats: Tensor) -> None:
    factor = torch.linspace(0.0, 1.9, len(floats))
    theirs = torch.stack([TF.adjust_sharpness(image, float(value)) for image, value in zip(floats, factor, strict=True)])
    torch.testing.assert_close(sharpen(floats, factor), theirs, atol=2e-6, rtol=0)
    assert torch.equal(sharpen(floats[..., :2], factor), floats[..., :2])
