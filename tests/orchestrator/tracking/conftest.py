"""A migrated MLflow database, made once a session and copied for each test (a migration costs many seconds)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Experiment


@pytest.fixture(autouse=True)
def _no_outer_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from orchestrator.tracking.mlflow_runs import prepare_mlflow

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    prepare_mlflow(f"sqlite:///{path}")
    from mlflow.tracking.client import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}").get_experiment("0")
    return path


@pytest.fixture
def experiment(tmp_path: Path, template_database: Path) -> Experiment:
    """An experiment whose run folder holds a migrated database of its own."""
    runs = tmp_path / "runs here"
    runs.mkdir()
    shutil.copy(template_database, runs / "mlflow.db")
    return Experiment(name="digits", run_dir=str(runs))


@pytest.fixture
def search_runs(experiment: Experiment) -> Callable[..., list[object]]:
    """Return the runs of the experiment that match a filter."""

    def find(where: str = "") -> list[object]:
        from mlflow.tracking.client import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{experiment.run_dir}/mlflow.db")
        found = client.get_experiment_by_name(experiment.name)
        return list(client.search_runs([found.experiment_id], where)) if found else []

    return find
