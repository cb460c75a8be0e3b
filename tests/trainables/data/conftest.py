"""Small folders of images, written by Pillow, and the arrays that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Picture = Callable[..., NDArray[np.uint8]]
MakeFolder = Callable[..., Path]


def _picture(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def picture() -> Picture:
    """Return a maker of random uint8 [H, W, C] (grey: [H, W]) by seed."""
    return _picture


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Return a maker of folders: {"class": count} or {"train/class": count, ...} of 12 x 12 colour PNGs."""

    def make(counts: dict[str, int], name: str = "photos") -> Path:
        root = tmp_path / name
        for number, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for row in range(count):
                Image.fromarray(_picture(1000 * number + row)).save(root / folder / f"{row:03d}.png")
        return root

    return make
