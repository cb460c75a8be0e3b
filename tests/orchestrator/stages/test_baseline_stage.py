"""What is said of the data before anything is trained on them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from orchestrator.config import Experiment
from orchestrator.context import Context
from orchestrator.stages.baseline import NAMED, data_in_words, run_baseline
from orchestrator.store.records import MemberRecord, TrialSpec
from trainables.data.dataset import ImageSet, Splits


def splits(classes: tuple[str, ...], left_out: int) -> Splits:
    def part(count: int) -> ImageSet:
        return ImageSet(np.zeros((count, 4, 4, 1), np.uint8), np.zeros(count), tuple(f"{count}-{i}" for i in range(count)))

    made = Splits(part(1200), part(30), part(20), classes, "f", (0.5,), (0.25,))
    return dataclasses.replace(made, skipped=tuple((f"{i}.png", "not an image file") for i in range(left_out)))


def test_sizes_and_classes_are_said() -> None:
    assert data_in_words(splits(("a", "b"), 0)) == "data: 1,200 train, 30 val, 20 test images, 2 classes"
    assert data_in_words(splits((), 0)).endswith("images, a number to predict")


@pytest.mark.parametrize(("depth", "warned"), [("all", False), ("head", True)])
def test_a_frozen_untrained_baseline_is_warned_of(depth: str, warned: bool) -> None:
    said: list[str] = []

    def train(specs: list[TrialSpec]) -> list[MemberRecord]:
        (spec,) = specs
        record = MemberRecord("baseline", "baseline", "image", spec.config, 0, "", "", "finished", best_epoch=1)
        return [record.replace(metrics={"val/accuracy": 0.5})]

    asked = Experiment(name="b", train={"finetune_depth": depth})
    context = SimpleNamespace(experiment=asked, say=said.append, splits=lambda: splits(("a", "b"), 0), train=train)
    run_baseline(cast("Context", context))
    assert any(line.startswith("warning: baseline.finetune_depth: 'head' without pretrained") for line in said) == warned


def test_the_first_files_left_out_are_named_and_the_others_counted() -> None:
    assert data_in_words(splits(("a",), 1)).endswith("; left out: 0.png: not an image file")
    said = data_in_words(splits(("a",), NAMED + 4))
    assert said.endswith("2.png: not an image file and 4 more")
