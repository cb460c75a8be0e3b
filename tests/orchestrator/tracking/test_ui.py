"""`orchestrate ui` refuses what it cannot or should not show, and links to pages that unfold the trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Experiment, TrackingSection
from orchestrator.errors import UserError
from orchestrator.tracking import ui
from orchestrator.tracking.server import check_port
from orchestrator.tracking.ui import charts_page, is_local, run_page, runs_page, serve


def experiment(tmp_path: Path, uri: str = "") -> Experiment:
    return Experiment(run_dir=str(tmp_path), tracking=TrackingSection(uri=uri))


def test_none_has_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to show"):
        serve(experiment(tmp_path, "none"))


@pytest.mark.parametrize(
    ("host", "warned"), [("0.0.0.0", True), ("192.168.1.2", True), ("example.org", True), ("127.0.0.1", False), ("::1", False)]
)
def test_an_address_that_others_reach_is_served_with_a_warning(
    tmp_path: Path, host: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def server(uri: str, artifacts: Path, *, host: str, port: int) -> Any:  # noqa: ARG001
        asked.append(host)
        raise UserError("enough")

    monkeypatch.setattr(ui, "mlflow_server", server)
    (tmp_path / "mlflow.db").touch()
    said: list[str] = []
    with pytest.raises(UserError, match="enough"):
        serve(experiment(tmp_path), host=host, say=said.append)
    assert asked == [host]
    assert said.pop() == f"starting MLflow at http://{host}:5000, which takes some seconds"
    assert [f"{host} is reached from other machines, and there is no login" in line for line in said] == [True] * warned


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_addresses_of_this_machine(host: str) -> None:
    assert is_local(host) and not is_local("::")


def test_a_run_that_was_never_tracked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing has been tracked here yet"):
        serve(experiment(tmp_path))


def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{check_port('127.0.0.1', 0)}"
    with pytest.raises(UserError, match=f"no MLflow server answers at {uri}"):
        serve(experiment(tmp_path, uri))


def test_links() -> None:
    assert runs_page("http://h", "3") == "http://h/#/experiments/3/runs?workflowType=machine_learning"
    assert charts_page("http://h", "3", "log_loss") == (
        "http://h/#/experiments/3/runs?workflowType=machine_learning&searchFilter=tags.kind%20%3D%20%27trial%27"
        "&orderByKey=metrics.%60best%2Fval%2Flog_loss%60&orderByAsc=true&compareRunsMode=CHART"
    )
    assert charts_page("http://h", "3", "accuracy").count("orderByAsc=false") == 1
    assert (
        run_page("http://h", "3", "r", "artifacts") == "http://h/#/experiments/3/runs/r/artifacts?workflowType=machine_learning"
    )
