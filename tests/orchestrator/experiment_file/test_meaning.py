"""Values that are right one by one but contradict each other, and paths that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.experiment_file import load


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search:\n  forbid: [hflip, rotat180]", ":2: search.forbid.1: got 'rotat180', did you mean 'rotate180'?"),
        ("search: {forbid: [hflip]}\ntrain:\n  augmentation: crop_flip", ":3: train.augmentation: 'crop_flip' applies hflip"),
        (
            "search: {forbid: [blur]}\nbaseline: {augmentation: flip+blur_noise}",
            ":2: baseline.augmentation: 'flip+blur_noise' applies blur",
        ),
        ("search: {forbid: [hflip]}\nensemble: {tta: flip}", ":2: ensemble.tta: 'flip' flips images"),
        ("search: {forbid: [hflip]}\ntrain: {tta: full}", ":2: train.tta: 'full' flips images"),
        ("search:\n  space: finetun", ":2: search.space: got 'finetun', did you mean 'finetune'?"),
        ("search:\n  space: finetune", ":2: search.space: 'finetune' needs pretrained weights; set train.model"),
        ("data:\n  val_fraction: 0.5\n  test_fraction: 0.5", ":2: data.val_fraction: with test_fraction 1 of the images"),
        ("train: {task: regression}", ":1: train.task: got 'regression', data.task is 'classification'"),
        ("data:\n  source: folder:nowhere", ":2: data.source: no folder at 'nowhere'"),
        ("data:\n  source: csv:nowhere.csv", ":2: data.source: no file at 'nowhere.csv'"),
        ("data: {source: cifar10, root: nowhere}", ":1: data.root: no folder at 'nowhere'"),
        ("search: {space: nowhere.py}", ":1: search.space: no file at 'nowhere.py'"),
        ("train:\n  model: resnet18\n  weights: nowhere.pth", ":3: train.weights: no file at 'nowhere.pth'"),
    ],
)
def test_contradictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load("e.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith(f"e.yaml{said}")


def test_paths_may_be_missing_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("data: {source: cifar10, root: nowhere}\ntrain: {weights: nowhere.pth}\nsearch: {space: nowhere.yaml}")
    assert load(path, check_paths=False).data.root == "nowhere"


def test_a_download_needs_no_folder_yet(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("data: {source: cifar10, root: nowhere, download: true}")
    assert load(path).data.download


def test_paths_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "e.yaml").write_text("data: {source: 'folder:~/photos'}")
    assert load(tmp_path / "e.yaml").data.source == "folder:~/photos"
