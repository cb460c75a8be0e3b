"""Splits of random colour images, for tests that only need something to train on."""

from __future__ import annotations

import numpy as np

from trainables.data.dataset import ImageSet, Splits


def random_splits(train: int, others: int, classes: tuple[str, ...] = ("a", "b")) -> Splits:
    """Return splits of 8 px images and labels drawn from one seed; `others` is the size of val and of test."""
    rng = np.random.default_rng(0)

    def part(count: int) -> ImageSet:
        images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        return ImageSet(images, rng.integers(0, len(classes), count), tuple(f"{count}-{i}" for i in range(count)))

    return Splits(part(train), part(others), part(others), classes, "f", (0.5,) * 3, (0.25,) * 3)
