"""Writes to a real MLflow database: in one call where that holds them, part by part where something is refused."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking.mlflow_runs import MlflowRuns, Run, prepare_mlflow


@pytest.fixture
def runs(tmp_path: Path, template_database: Path) -> MlflowRuns:
    """Return the runs of a new database."""
    shutil.copy(template_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    prepare_mlflow(uri)
    made = MlflowRuns(uri, experiment="e", artifacts=tmp_path / "artifacts", search_id="s")
    assert not made.connect()
    return made


def _run(runs: MlflowRuns) -> Run:
    return runs.get(("trial", "t0"), name="t0", tags={"search_id": "s", "trial_id": "t0"}, started=0)


def _metrics(count: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric("val/loss", float(step), 1, step) for step in range(count)]


@pytest.fixture
def calls(runs: MlflowRuns, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the calls that reach MLflow from now on."""
    seen: list[dict[str, Any]] = []
    real = runs._client.log_batch

    def log_batch(run_id: str, **parts: Any) -> None:
        seen.append({kind: len(values) for kind, values in parts.items() if values})
        real(run_id, **parts)

    monkeypatch.setattr(runs._client, "log_batch", log_batch)
    return seen


def _stored(runs: MlflowRuns, run: Run) -> Any:
    return runs._client.get_run(run.run_id).data


def test_a_write_is_one_call_and_what_mlflow_knows_is_not_told_again(runs: MlflowRuns, calls: list[dict[str, Any]]) -> None:
    run = _run(runs)
    runs.write(run, metrics=_metrics(3), params={"lr": "0.1"}, tags={"trial_id": "t0", "status": "running"})
    runs.write(run, params={"lr": "0.1"}, tags={"status": "running"})
    runs.write(run, params={"lr": "0.2"}, tags={"status": "finished"})
    assert calls == [{"metrics": 3, "params": 1, "tags": 1}, {"tags": 2}]
    data = _stored(runs, run)
    assert data.params == {"lr": "0.1"}
    assert {name: data.tags[name] for name in ("trial_id", "status", "changed.lr")} == {
        "trial_id": "t0", "status": "finished", "changed.lr": "0.1 -> 0.2",
    }  # fmt: skip
    assert data.metrics == {"val/loss": 2.0}


def test_what_is_too_much_for_one_call_goes_in_several(runs: MlflowRuns, calls: list[dict[str, Any]]) -> None:
    run = _run(runs)
    runs.write(run, metrics=_metrics(1100), params={f"p{i}": "1" for i in range(150)}, tags={"a": "b"})
    assert sorted(map(str, calls)) == sorted(
        map(str, [{"params": 100}, {"params": 50}, {"tags": 1}, {"metrics": 1000}, {"metrics": 100}])
    )
    assert len(runs._client.get_metric_history(run.run_id, "val/loss")) == 1100


def test_a_refused_part_takes_nothing_else_with_it(runs: MlflowRuns, caplog: pytest.LogCaptureFixture) -> None:
    run = _run(runs)
    runs._client.log_param(run.run_id, "lr", "0.5")  # somebody else's, which this process has not read
    runs.write(run, metrics=_metrics(2), params={"lr": "0.1"}, tags={"status": "running"})
    data = _stored(runs, run)
    assert (data.params, data.tags["status"], data.metrics) == ({"lr": "0.5"}, "running", {"val/loss": 1.0})
    assert len(runs._client.get_metric_history(run.run_id, "val/loss")) == 2
    assert "MLflow refused params" in caplog.text


def test_tags_and_parameters_are_known_again_after_a_restart(runs: MlflowRuns, calls: list[dict[str, Any]]) -> None:
    runs.write(_run(runs), params={"lr": "0.1"}, tags={"status": "running"})
    runs._find_runs()
    calls.clear()
    runs.write(_run(runs), params={"lr": "0.1"}, tags={"status": "running", "time": str(int(time.time()))})
    assert calls == [{"tags": 1}]
