"""Images to augment: noise with structure, so that a wrong shift, angle or colour shows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


def stored_images(count: int, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    """Return uint8 [N, H, W, C]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


@pytest.fixture
def images() -> Tensor:
    """Return uint8 [6, 16, 20, 3], not square on purpose."""
    return stored_images(6, 16, 20)


@pytest.fixture
def floats(images: Tensor) -> Tensor:
    """Return the same as float32 [6, 3, 16, 20] in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255
