"""Small splits of the digits that whole trainings run on."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from trainables.data import load_splits
from trainables.data.dataset import DataConfig, ImageSet, Splits

sys.path.insert(0, str(Path(__file__).parent))  # so that the tests here find what they share


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_splits(DataConfig())


@pytest.fixture(scope="module")
def few(digits: Splits) -> Splits:
    """A small, uneven part of the digits: fast, and good enough to feel a knob."""
    kept = np.flatnonzero((digits.train.targets > 2) | (np.arange(len(digits.train)) % 5 == 0))[:200]
    rows = np.arange(100)
    return dataclasses.replace(digits, train=digits.train.take(kept), val=digits.val.take(rows), test=digits.test.take(rows))


@pytest.fixture(scope="module")
def values(few: Splits) -> Splits:
    """The same images with a number to guess: 100 + 200 x the mean brightness."""

    def part(images: ImageSet) -> ImageSet:
        return ImageSet(images.images, 100.0 + 200.0 * images.images.mean(axis=(1, 2, 3)) / 255, images.ids)

    return dataclasses.replace(few, train=part(few.train), val=part(few.val), test=part(few.test), classes=())
