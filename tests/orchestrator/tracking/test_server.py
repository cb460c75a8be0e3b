"""A real `mlflow server`: what was told while it was down arrives when it is up, once; and it stops with all its children."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Experiment, TrackingSection
from orchestrator.errors import RunFailed, UserError
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from orchestrator.tracking import open_tracker
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.server import check_port, mlflow_server
from orchestrator.tracking.ui import links, serve


def tell(experiment: Experiment, *, epochs: range, picture: Path) -> int:
    """Tell a tracker of two trials and return how many events remained in the journal."""
    tracker = open_tracker(experiment, Workspace(experiment.run_path))
    assert isinstance(tracker, MlflowTracker)
    tracker.search_started({"search.trials": 2}, {})
    for trial_id in ("t1", "t2"):
        tracker.trial_started(trial_id, {"lr": 0.1}, {"kind": "trial"})
        for epoch in epochs:
            tracker.trial_epoch(trial_id, {"val/accuracy": epoch / 10}, epoch)
        tracker.trial_ended(MemberRecord(trial_id, "trial", "image", {"lr": 0.1}, 0, "h", "f", "finished"), [picture])
    tracker.search_ended("finished", {"best/val/accuracy": 0.4})
    tracker.close()
    return tracker.waiting


def state(uri: str) -> dict[str, Any]:
    """Return every run by name: its status, curve and files; fails if two runs share a name."""
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {
        run.info.run_name: (
            run.info.status,
            [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/accuracy")],
            [file.path for file in client.list_artifacts(run.info.run_id, "figures")],
        )
        for run in found
    }


def test_down_at_first_then_up_everything_arrives_once(
    tmp_path: Path, template_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    port = check_port("127.0.0.1", 0)
    uri = f"http://127.0.0.1:{port}"
    experiment = Experiment(run_dir=str(tmp_path / "runs"), tracking=TrackingSection(uri=uri))
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=uri):
        check_tracking(uri)
    assert tell(experiment, epochs=range(1, 4), picture=picture) > 10

    database = tmp_path / "mlflow.db"
    database.write_bytes(template_database.read_bytes())
    with mlflow_server(f"sqlite:///{database}", tmp_path / "artifacts", host="127.0.0.1", port=port) as server:
        check_tracking(uri, timeout=60)
        assert tell(experiment, epochs=range(1, 5), picture=picture) == 0
        curve = [(epoch, epoch / 10) for epoch in range(1, 5)]
        expected = {
            "digits": ("FINISHED", [], []),
            "t1": ("FINISHED", curve, ["figures/curve.png"]),
            "t2": ("FINISHED", curve, ["figures/curve.png"]),
        }
        assert state(uri) == expected
        Workspace(experiment.run_path).journal.with_name("tracking.jsonl.delivered").unlink()
        assert tell(experiment, epochs=range(1, 5), picture=picture) == 0
        assert state(uri) == expected
        said: list[str] = []
        serve(experiment, say=said.append)
        assert said == ["\n".join(links(uri, "digits", "accuracy"))]
        assert "search: " in said[0]
        group = server.process.pid
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_busy_port_is_the_user_s_to_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} on 127\.0\.0\.1: .*--port"):
            check_port("127.0.0.1", port)


def test_a_server_that_dies_says_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho no space in the house >&2\nexit 3\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with (
        pytest.raises(RunFailed, match=r"ended with code 3:\nno space in the house"),
        mlflow_server("sqlite:///x.db", tmp_path, host="127.0.0.1", port=0),
    ):
        pass
