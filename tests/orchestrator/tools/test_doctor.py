"""The doctor passes what is sound and names what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.tools.doctor import examine, labels_survive
from orchestrator.tools.lr_find import find_lr
from orchestrator.tools.stage_benchmark import benchmark_stages
from trainables.config import TrainConfig

CHECKS = ["first_batch", "evaluation", "deterministic", "frozen_norms", "normalisation", "homogeneous_batch", "labels"]


def test_the_doctor_finds_nothing_wrong_with_the_digits(digits: Experiment) -> None:
    found = examine(digits)
    assert [check.name for check in found] == CHECKS
    assert all(check.ok for check in found), found
    assert " x 1 x 8 x 8 (images x channels" in found[0].message


def test_the_doctor_names_images_that_are_all_the_same(photos: Path, tmp_path: Path) -> None:
    for file in photos.rglob("*.png"):
        Image.fromarray(np.full((24, 24, 3), 7, dtype=np.uint8)).save(file)
    experiment = load(None, [f"run_dir={tmp_path}", f"data.source=folder:{photos}", "data.min_per_class=2", "search.forbid=[]"])
    failed = {check.name: check.message for check in examine(experiment) if not check.ok}
    assert "every pixel is the same" in failed["first_batch"]
    assert "normalisation" in failed


@pytest.mark.parametrize(
    ("augmentation", "classes", "forbid", "said"),
    [
        ("crop_flip", tuple("0123456789"), (), "may hflip, but the classes look like digits"),
        ("rotate+flip", ("ant", "bee"), ("rotate",), "may rotate, but search.forbid names it"),
        ("crop_flip", ("ant", "bee"), (), ""),
        ("rotate", tuple("0123456789"), (), ""),
    ],
)
def test_augmentations_that_change_the_label_are_found(
    augmentation: str, classes: tuple[str, ...], forbid: tuple[str, ...], said: str
) -> None:
    found = labels_survive(TrainConfig(augmentation=augmentation), classes, forbid)
    assert found.ok is not bool(said)
    assert said in found.message


def test_a_model_that_cannot_be_built_is_the_users_to_mend(digits: Experiment) -> None:
    wrong = digits.model_copy(update={"train": {"model": "resnet18", "weights": "/nowhere.pth"}})
    for tool in (examine, find_lr, benchmark_stages):
        with pytest.raises(UserError, match="nowhere"):
            tool(wrong)
