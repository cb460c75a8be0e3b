"""What is said of the data before anything is trained on them."""

from __future__ import annotations

import dataclasses

import numpy as np

from orchestrator.stages.baseline import NAMED, data_in_words
from trainables.data.dataset import ImageSet, Splits


def splits(classes: tuple[str, ...], left_out: int) -> Splits:
    def part(count: int) -> ImageSet:
        return ImageSet(np.zeros((count, 4, 4, 1), np.uint8), np.zeros(count), tuple(f"{count}-{i}" for i in range(count)))

    made = Splits(part(1200), part(30), part(20), classes, "f", (0.5,), (0.25,))
    return dataclasses.replace(made, skipped=tuple((f"{i}.png", "not an image file") for i in range(left_out)))


def test_sizes_and_classes_are_said() -> None:
    assert data_in_words(splits(("a", "b"), 0)) == "data: 1,200 train, 30 val, 20 test images, 2 classes"
    assert data_in_words(splits((), 0)).endswith("images, a number to predict")


def test_the_first_files_left_out_are_named_and_the_others_counted() -> None:
    assert data_in_words(splits(("a",), 1)).endswith("; left out: 0.png: not an image file")
    said = data_in_words(splits(("a",), NAMED + 4))
    assert said.endswith("2.png: not an image file and 4 more")
