"""What one delivery tells of a trial goes to MLflow together, and nothing of it is lost where a parameter has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.store.records import MemberRecord
from orchestrator.tracking.journal import Event
from orchestrator.tracking.mlflow_runs import Run
from orchestrator.tracking.mlflow_sink import MlflowSink


class Calls:
    """Stands for MLflow's runs and notes what is asked of them."""

    search_id = "s"

    def __init__(self) -> None:
        self.runs: dict[Any, Run] = {}
        self.writes: list[tuple[str, list[str], dict[str, str], dict[str, str]]] = []
        self.statuses: list[tuple[str, str, int]] = []

    def get(self, key: tuple[str, str], *, name: str, tags: Mapping[str, str], started: int) -> Run:  # noqa: ARG002
        return self.runs.setdefault(key, Run("/".join(key)))

    def write(
        self, run: Run, *, metrics: Sequence[Any] = (), params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:  # fmt: skip
        told = [f"{metric.key}@{metric.step}" for metric in metrics]
        self.writes.append((run.run_id, told, dict(params), {k: v for k, v in tags.items() if k in ("status", "a")}))

    def upload(self, run: Run, paths: Sequence[Path], folder: str) -> None:
        """Take nothing."""

    def set_status(self, run: Run, status: str, ended: int) -> None:
        self.statuses.append((run.run_id, status, ended))


def _events(lr_at_the_end: float) -> list[Event]:
    record = MemberRecord(
        "t0", "trial", "image", {"lr": lr_at_the_end, "width": 4}, 0, "", "", "stopped", epochs_run=2, best_epoch=1,
        metrics={"val/loss": 0.5},
    )  # fmt: skip
    told: list[tuple[str, dict[str, Any]]] = [
        ("trial_started", {"trial_id": "t0", "params": {"lr": 0.1}, "tags": {"a": "b"}}),
        ("trial_epoch", {"trial_id": "t0", "epoch": 1, "metrics": {"val/loss": 0.5}, "dropped": []}),
        ("trial_epoch", {"trial_id": "t1", "epoch": 4, "metrics": {"val/loss": 0.9}, "dropped": []}),
        ("trial_epoch", {"trial_id": "t0", "epoch": 2, "metrics": {"val/loss": 0.6}, "dropped": []}),
        ("trial_ended", {"record": record.to_dict(), "figures": []}),
    ]
    return [Event(number, 1000 + number, kind, data) for number, (kind, data) in enumerate(told)]


SUMMARY = ["best/val/loss@0", "epochs_run@0", "best_epoch@0", "seconds@0", "peak_memory_mb@0"]
EPOCHS = ["val/loss@1", "val/loss@2"]


def test_a_trial_that_starts_and_ends_in_one_delivery_is_one_write() -> None:
    calls = Calls()
    MlflowSink(calls, name="n", tags={}).deliver(_events(lr_at_the_end=0.1))  # type: ignore[arg-type]
    assert calls.writes == [
        ("trial/t0", [*EPOCHS, *SUMMARY], {"lr": "0.1", "width": "4"}, {"status": "stopped", "a": "b"}),
        ("trial/t1", ["val/loss@4"], {}, {}),
    ]
    assert calls.statuses == [("trial/t0", "FINISHED", 1004)]


def test_a_parameter_that_has_changed_is_told_after_what_the_trial_began_with() -> None:
    calls = Calls()
    MlflowSink(calls, name="n", tags={}).deliver(_events(lr_at_the_end=0.2))  # type: ignore[arg-type]
    assert calls.writes[:2] == [
        ("trial/t0", EPOCHS, {"lr": "0.1"}, {"status": "running", "a": "b"}),
        ("trial/t0", SUMMARY, {"lr": "0.2", "width": "4"}, {"status": "stopped"}),
    ]
