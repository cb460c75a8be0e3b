"""Paths of an experiment: written out in full, and a run folder found where it lies and under its new name."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.experiment_file.places import absolute, lying_at, written_out

NAMED = [
    "run_dir=out/../runs", "data.source=folder:photos", "data.root=sets", "data.cache_dir=~/cache",
    "search.space=my/space.yaml",
    "train={model: mobilenet_v2, weights: nets/w.pth}", "baseline.weights=./b.pt", "tracking.uri=sqlite:///scores.db",
]  # fmt: skip


def test_every_path_is_written_out_and_once_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = absolute(load(None, NAMED, check_paths=False))
    assert found.run_dir == f"{tmp_path}/runs"
    assert (found.data.source, found.data.root) == (f"folder:{tmp_path}/photos", f"{tmp_path}/sets")
    assert found.data.cache_dir == "/home/me/cache"
    assert found.search.space == f"{tmp_path}/my/space.yaml"
    assert (found.train["weights"], found.baseline["weights"]) == (f"{tmp_path}/nets/w.pth", f"{tmp_path}/b.pt")
    assert found.tracking.uri == f"sqlite:///{tmp_path}/scores.db"
    monkeypatch.chdir("/")
    assert absolute(found) == found


def test_what_is_no_path_stays() -> None:
    given = load(None, ["data.source=cifar10", "train.weights=default", "tracking.uri=http://h:5000"], check_paths=False)
    assert absolute(given) == given.model_copy(update={"run_dir": written_out("runs")})


def test_a_run_is_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Experiment(name="digits", run_dir="/elsewhere/runs")
    assert lying_at(stored, tmp_path / "digits").run_path == tmp_path / "digits"
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path / "digits")
    assert lying_at(stored, Path()).run_path == tmp_path / "digits"
    assert lying_at(stored, Path("../digits")) == lying_at(stored, Path())


def test_a_renamed_run_keeps_its_names_in_mlflow(tmp_path: Path) -> None:
    found = lying_at(Experiment(name="digits"), tmp_path / "old-digits")
    assert (found.name, found.run_path) == ("old-digits", tmp_path / "old-digits")
    assert (found.tracking_experiment, found.model_name) == ("digits", "digits")
    with pytest.raises(UserError, match="allowed: letters"):
        lying_at(Experiment(name="digits"), tmp_path / "my digits")
