"""Proposals for different kinds of data, each a file that loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.setup.init import render
from orchestrator.setup.look import Look
from orchestrator.setup.propose import propose, run_name

PHOTOS = Look("folder:photos", 400, {"cat": 200, "dog": 200}, {"": 400}, side=300, one_size=False)
GREY = Look("folder:scans", 3000, {str(i): 300 for i in range(10)}, {"": 3000}, side=28, channels=1)


def test_photos_start_from_pretrained_weights() -> None:
    sections = propose(PHOTOS, name="x").sections
    assert sections["search"]["space"] == "finetune"
    assert sections["train"]["weights"] == "default"
    assert sections["data"]["image_size"] == 224
    assert sections["baseline"]["finetune_depth"] == "head"
    assert "forbid" not in sections["search"]


def test_photos_from_scratch_where_asked() -> None:
    sections = propose(PHOTOS, name="x", weights="none").sections
    assert sections["search"]["space"] == "scratch"
    assert "weights" not in sections["train"]
    assert sections["data"]["image_size"] == 96


def test_small_grey_digits_train_from_nothing_and_forbid_flips() -> None:
    sections = propose(GREY, name="x").sections
    assert sections["search"]["space"] == "scratch"
    assert sections["search"]["forbid"] == ["hflip", "vflip", "rotate180"]
    assert "image_size" not in sections["data"]


def test_every_proposal_lets_the_device_choose_the_precision() -> None:
    for proposal in (propose(PHOTOS, name="x"), propose(GREY, name="x")):
        assert proposal.sections["train"]["precision"] == "auto"
        assert "bf16" in proposal.comments["train.precision"]


def test_compiling_is_proposed_where_torch_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    for seen in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda seen=seen: seen)
        assert propose(PHOTOS, name="x").sections["train"].get("compile") == ("auto" if seen else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda _: None)  # no driver: torch is not even asked
    assert "compile" not in propose(PHOTOS, name="x").sections["train"]


def test_a_weights_file_tells_its_model() -> None:
    assert propose(GREY, name="x", weights="w/resnet18-f37072fd.pth").sections["train"]["model"] == "resnet18"
    assert propose(GREY, name="x", weights="w.pth", model="vgg11").sections["train"]["model"] == "vgg11"
    with pytest.raises(UserError, match="add --model"):
        propose(GREY, name="x", weights="w.pth")


def test_imbalance_asks_for_balanced_scores() -> None:
    sections = propose(Look("folder:x", 110, {"a": 100, "b": 10}), name="x").sections
    assert sections["search"]["metric"] == "balanced_accuracy"
    assert sections["train"]["class_weights"] == "balanced"


def test_given_splits_are_kept() -> None:
    data = propose(Look("folder:x", 100, {"a": 50, "b": 50}, {"train": 80, "test": 20}), name="x").sections["data"]
    assert "val_fraction" in data
    assert "test_fraction" not in data


def test_too_few_images_are_said() -> None:
    assert "rare (2)" in propose(Look("folder:x", 52, {"a": 50, "rare": 2}), name="x").comments["data"]


@pytest.mark.parametrize(
    "look",
    [
        PHOTOS,
        GREY,
        Look("csv:ages.csv", 500, {}, side=120),
        Look("cifar10", 50_000, dict.fromkeys("abcdefghij", 5000), {"train": 50_000, "test": 10_000}),
        Look("folder:we: ird\n#name", 90, {"left": 80, "x: #": 10}, side=40, skipped=(("a\nb: c", "why: #not"),)),
    ],
    ids=lambda look: look.source[:8],
)
def test_every_proposal_is_a_file_that_loads(tmp_path: Path, look: Look) -> None:
    text = render(propose(look, name=run_name(look.source)))
    (tmp_path / "e.yaml").write_text(text)
    experiment = load(tmp_path / "e.yaml", check_paths=False)
    assert experiment.data.source == look.source
    assert experiment.data.task == ("regression" if look.regression else "classification")
    assert text.count("#") >= 6


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"),
        ("folder:/a/my photos/", "my-photos"),
        ("csv:/x/ages.csv", "ages"),
        ("folder:/___", "images"),
        ("folder:/\u00e9t\u00e9", "t"),
    ],
)
def test_run_names_are_file_names(source: str, name: str) -> None:
    assert run_name(source) == name
