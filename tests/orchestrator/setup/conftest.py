"""Folders of small noise photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos() -> Callable[..., Path]:
    """Return a writer of noise photos of slightly differing sizes: (root, {folder: how many}) -> root."""

    def write(root: Path, counts: dict[str, int], *, side: int = 100) -> Path:
        rng = np.random.default_rng(0)
        for name, count in counts.items():
            (root / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (side + number % 3, side + 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{number}.jpg")
        return root

    return write
