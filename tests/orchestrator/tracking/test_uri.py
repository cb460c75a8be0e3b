"""Which address a run is told to, and that nothing else gets past the door."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import Experiment, TrackingSection
from orchestrator.errors import UserError
from orchestrator.store.workspace import Workspace
from orchestrator.tracking import NullTracker, open_tracker, resolve_uri
from orchestrator.tracking.uri import artifacts_root, host_and_port, shown


def experiment(uri: str, run_dir: str = "runs") -> Experiment:
    return Experiment(run_dir=run_dir, tracking=TrackingSection(uri=uri))


def test_the_default_is_one_database_beside_the_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(experiment("")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert artifacts_root(resolve_uri(experiment("")), experiment("")) == tmp_path / "runs" / "mlartifacts"


def test_the_environment_serves_where_the_experiment_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000/")
    assert resolve_uri(experiment("")) == "http://server:5000"
    assert resolve_uri(experiment("https://other")) == "https://other"
    assert artifacts_root("https://other", experiment("")) is None


def test_a_relative_database_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(experiment("sqlite:///mlflow.db")) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_uri(experiment("sqlite:////abs/x.db")) == "sqlite:////abs/x.db"
    assert artifacts_root("sqlite:////abs/x.db", experiment("")) == Path("/abs/mlartifacts")
    assert artifacts_root("postgresql://h/db", experiment("", "/r")) == Path("/r/mlartifacts")


def test_none_is_nobody(tmp_path: Path) -> None:
    tracker = open_tracker(experiment("None"), Workspace(tmp_path / "run"))
    assert isinstance(tracker, NullTracker)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/x", "localhost:5000", "sqlite:mlflow.db", "ftp://x"])
def test_an_address_mlflow_would_not_take_is_refused_with_what_is_allowed(uri: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri: got .*allowed: .*sqlite:///PATH"):
        resolve_uri(experiment(uri))


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_host_and_port() -> None:
    assert host_and_port("http://server:5000/x") == ("server", 5000)
    assert host_and_port("postgresql+psycopg2://me:pw@db/x") == ("db", 5432)
    assert host_and_port("sqlite:////a/b.db") is None
