"""The written experiment file: loads, is commented, and never overwrites by accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, UserError
from orchestrator.experiment_file import load
from orchestrator.setup.init import write_experiment

Photos = Callable[..., Path]


def test_a_folder_gets_a_file_that_loads(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "my photos", {"cat": 6, "dog": 6}, side=40)
    out = write_experiment(f"folder:{tmp_path / 'my photos'}", tmp_path / "new" / "e.yaml")
    experiment = load(out)
    assert experiment.name == "my-photos"
    assert experiment.search.space == "scratch"
    assert "# 12 images, 2 classes, about 6 a class; short side 41 px (median)" in out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["e.yaml"]


def test_a_file_is_overwritten_only_by_force(tmp_path: Path) -> None:
    out = tmp_path / "e.yaml"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists already.*--force"):
        write_experiment("digits", out)
    assert out.read_text() == "mine"
    assert load(write_experiment("digits", out, force=True)).data.source == "digits"


def test_a_proposal_that_does_not_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.weights: no file"):
        write_experiment("digits", tmp_path / "e.yaml", weights=str(tmp_path / "resnet18.pth"))
    assert list(tmp_path.iterdir()) == []


def test_relative_paths_stay_relative(tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(Path("pics"), {"a": 5, "b": 5}, side=40)
    assert load(write_experiment("pics", Path("e.yaml"))).data.source == "folder:pics"
