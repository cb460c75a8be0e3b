"""A real MLflow database hears everything once: levels, params, curves, status, and no second run after any restart."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Experiment
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from orchestrator.tracking import open_tracker
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from trainables.config import TrainConfig

Find = Callable[..., list[Any]]
TAGS = {"kind": "trial", "model": "cnn_a", "config_hash": "abc", "data_fingerprint": "f00d", "parent": ""}


def tracker_of(experiment: Experiment) -> MlflowTracker:
    tracker = open_tracker(experiment, Workspace(experiment.run_path))
    assert isinstance(tracker, MlflowTracker)
    return tracker


def record(trial_id: str, status: str = "finished", **changes: Any) -> MemberRecord:
    config = TrainConfig(model="cnn_a").to_dict()
    made = MemberRecord(
        trial_id, "trial", "image", config, 0, "abc", "f00d", status, "budget", "", 2, 2, {"val/accuracy": 0.75}, 1.5, "cpu"
    )
    return made.replace(**changes)


def client_of(experiment: Experiment) -> Any:
    from mlflow.tracking.client import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{experiment.run_dir}/mlflow.db")


def curve(experiment: Experiment, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client_of(experiment).get_metric_history(run.info.run_id, name)]


def tell_trial(tracker: MlflowTracker, trial_id: str, epochs: int = 2) -> None:
    tracker.trial_started(trial_id, TrainConfig(model="cnn_a").to_dict(), TAGS)
    for epoch in range(1, epochs + 1):
        tracker.trial_epoch(trial_id, {"val/accuracy": epoch / 4, "train/loss": 1 / epoch}, epoch)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "curve.png"
    path.write_bytes(b"\x89PNG")
    return path


def test_a_search_is_a_parent_with_a_nested_run_a_trial(experiment: Experiment, search_runs: Find, picture: Path) -> None:
    tracker = tracker_of(experiment)
    tracker.search_started({"search": {"trials": 2}, "seed": 0}, {"data_fingerprint": "f00d"})
    for trial_id in ("t1", "t2"):
        tell_trial(tracker, trial_id)
        tracker.trial_ended(record(trial_id), [picture])
    tracker.search_ended("finished", {"best/val/accuracy": 0.75}, [picture])
    tracker.close()
    assert tracker.waiting == 0

    (parent,) = search_runs("tags.kind = 'search'")
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"search.trials": "2", "seed": "0"}
    assert parent.data.metrics == {"best/val/accuracy": 0.75}
    assert parent.data.tags["status"] == "finished"
    assert str(experiment.run_path) in parent.data.tags["mlflow.note.content"]
    children = search_runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in children} == {"t1", "t2"}
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in TrainConfig(model="cnn_a").to_dict().items()}
        assert curve(experiment, run, "val/accuracy") == [(1, 0.25), (2, 0.5)]
        assert run.data.metrics["best/val/accuracy"] == 0.75
        wanted = TAGS | {"status": "finished", "stop_reason": "budget", "search_id": parent.data.tags["search_id"]}
        assert {name: run.data.tags[name] for name in wanted} == wanted
        assert "git_revision" in run.data.tags
        files = client_of(experiment).list_artifacts(run.info.run_id, "figures")
        assert [file.path for file in files] == ["figures/curve.png"]
    assert (Path(experiment.run_dir) / "mlartifacts").is_dir()


def test_a_resumed_search_makes_no_second_run(experiment: Experiment, search_runs: Find) -> None:
    first = tracker_of(experiment)
    first.search_started({"search.trials": 2}, {})
    tell_trial(first, "t1")
    first.trial_ended(record("t1"))
    tell_trial(first, "t2", epochs=1)
    first.close()  # the driver ends without a word about t2

    again = tracker_of(experiment)
    again.search_started({"search.trials": 4}, {})
    tell_trial(again, "t2", epochs=3)
    again.trial_ended(record("t2", "stopped"))
    again.search_ended("finished", {})
    again.close()

    assert len(search_runs("tags.kind = 'search'")) == 1
    runs = {run.info.run_name: run for run in search_runs("tags.kind = 'trial'")}
    assert sorted(runs) == ["t1", "t2"]
    assert len(search_runs("tags.kind = 'trial'")) == 2
    assert curve(experiment, runs["t2"], "val/accuracy") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert runs["t2"].data.tags["status"] == "stopped"
    parent = search_runs("tags.kind = 'search'")[0]
    assert parent.data.params["search.trials"] == "2"
    assert parent.data.tags["changed.search.trials"] == "2 -> 4"


def test_delivering_everything_again_changes_nothing(experiment: Experiment, search_runs: Find, picture: Path) -> None:
    def everything() -> list[Any]:
        runs = sorted(search_runs(), key=lambda run: run.info.run_name)
        names = [sorted(run.data.metrics) for run in runs]
        curves = [[curve(experiment, run, name) for name in metrics] for run, metrics in zip(runs, names, strict=True)]
        return [[run.to_dictionary() for run in runs], curves]

    tracker = tracker_of(experiment)
    tracker.search_started({"search.trials": 1}, {})
    tell_trial(tracker, "t1")
    tracker.trial_ended(record("t1"), [picture])
    tracker.stage("ensemble", params={"method": "greedy"}, metrics={"test/accuracy": 0.9}, artifacts=[picture])
    tracker.search_ended("finished", {"best/val/accuracy": 0.75})
    tracker.close()
    before = everything()
    Workspace(experiment.run_path).journal.with_name("tracking.jsonl.delivered").unlink()
    tracker_of(experiment).close()
    assert everything() == before


def test_a_deleted_database_is_built_again_from_the_journal(
    experiment: Experiment, search_runs: Find, template_database: Path
) -> None:
    tracker = tracker_of(experiment)
    tracker.search_started({}, {})
    tell_trial(tracker, "t1")
    tracker.trial_ended(record("t1"))
    tracker.close()
    (Path(experiment.run_dir) / "mlflow.db").write_bytes(template_database.read_bytes())
    assert search_runs() == []
    tracker_of(experiment).close()
    (run,) = search_runs("tags.kind = 'trial'")
    assert curve(experiment, run, "val/accuracy") == [(1, 0.25), (2, 0.5)]


def test_values_that_are_not_finite_are_dropped_and_named(experiment: Experiment, search_runs: Find) -> None:
    tracker = tracker_of(experiment)
    tracker.trial_started("t1", {"lr": 0.1}, TAGS)
    tracker.trial_epoch("t1", {"val/acc@5": 0.5, "train/loss": math.nan}, 1)
    tracker.trial_epoch("t1", {"val/acc@5": 0.6, "train/loss": math.inf}, 2)
    failed = record("t1", "failed", stop_reason="nan", error="the loss became NaN", metrics={"val/loss": math.nan})
    tracker.trial_ended(failed)
    tracker.close()
    (run,) = search_runs("tags.kind = 'trial'")
    assert curve(experiment, run, "val/acc_5") == [(1, 0.5), (2, 0.6)]
    assert "train/loss" not in run.data.metrics
    assert run.data.tags["nonfinite.train/loss"] == "epoch 2"
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "the loss became NaN")


def test_the_same_epoch_or_record_told_twice_is_logged_once(experiment: Experiment, search_runs: Find) -> None:
    tracker = tracker_of(experiment)
    for _ in range(2):
        tell_trial(tracker, "t1")
        tracker.trial_ended(record("t1"))
        tracker.trial_ended(record("t1"))
    tracker.close()
    (run,) = search_runs("tags.kind = 'trial'")
    assert curve(experiment, run, "val/accuracy") == [(1, 0.25), (2, 0.5)]


def test_a_trial_whose_driver_died_is_closed_by_its_record(experiment: Experiment, search_runs: Find) -> None:
    tracker = tracker_of(experiment)
    tracker.search_started({}, {})
    for trial_id in ("done", "lost"):
        tell_trial(tracker, trial_id)
    tracker.close()
    assert {run.info.status for run in search_runs("tags.kind = 'trial'")} == {"RUNNING"}
    Workspace(experiment.run_path).save_record(record("done"))

    again = tracker_of(experiment)
    again.search_started({}, {})
    again.search_ended("interrupted", {})
    again.close()
    status = {run.info.run_name: (run.info.status, run.data.tags["status"]) for run in search_runs("tags.kind = 'trial'")}
    assert status == {"done": ("FINISHED", "finished"), "lost": ("KILLED", "interrupted")}
    assert search_runs("tags.kind = 'search'")[0].info.status == "KILLED"


def test_a_stage_is_a_run_of_its_own_and_a_rerun_updates_it(experiment: Experiment, search_runs: Find, picture: Path) -> None:
    for score in (0.8, 0.9):
        tracker = tracker_of(experiment)
        tracker.stage("ensemble", params={"members": score}, metrics={"test/accuracy": score, "x": math.nan},
                      artifacts=[picture], tags={"method": "greedy"})  # fmt: skip
        tracker.close()
    (run,) = search_runs("tags.stage = 'ensemble'")
    assert run.info.run_name == "digits: ensemble"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test/accuracy": 0.9}
    assert (run.data.params["members"], run.data.tags["changed.members"]) == ("0.8", "0.8 -> 0.9")
    assert "mlflow.parentRunId" not in run.data.tags
    assert search_runs("tags.kind = 'search'") == []


def test_a_run_that_the_user_deleted_stops_nothing(experiment: Experiment, search_runs: Find) -> None:
    tracker = tracker_of(experiment)
    tracker.search_started({}, {})
    tell_trial(tracker, "t1")
    tracker.close()
    (run,) = search_runs("tags.kind = 'trial'")
    client_of(experiment).delete_run(run.info.run_id)
    again = tracker_of(experiment)
    tell_trial(again, "t2")
    again.trial_ended(record("t1"))
    again.trial_ended(record("t2"))
    again.close()
    assert again.waiting == 0
    assert {run.info.run_name for run in search_runs("tags.kind = 'trial'")} == {"t1", "t2"}


def test_a_deleted_experiment_is_taken_back(experiment: Experiment, search_runs: Find) -> None:
    tracker_of(experiment).close()
    client = client_of(experiment)
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    tracker = tracker_of(experiment)
    tracker.search_started({}, {})
    tracker.close()
    assert tracker.waiting == 0
    assert len(search_runs("tags.kind = 'search'")) == 1


def test_two_runs_of_one_trial_are_healed_to_one(experiment: Experiment, search_runs: Find) -> None:
    tracker = tracker_of(experiment)
    tell_trial(tracker, "t1")
    tracker.close()
    (run,) = search_runs("tags.kind = 'trial'")
    twin = client_of(experiment).create_run(run.info.experiment_id, tags=run.data.tags, run_name="t1")
    tracker_of(experiment).close()
    (left,) = search_runs("tags.kind = 'trial'")
    assert left.info.run_id == run.info.run_id != twin.info.run_id


def test_killed_between_telling_and_delivery_the_next_start_delivers(experiment: Experiment, search_runs: Find) -> None:
    code = (
        "import os, signal, sys\n"
        "from orchestrator.config import Experiment\n"
        "from orchestrator.store.workspace import Workspace\n"
        "from orchestrator.tracking import open_tracker\n"
        f"e = Experiment(name='digits', run_dir={experiment.run_dir!r})\n"
        "t = open_tracker(e, Workspace(e.run_path))\n"
        "t.search_started({}, {})\n"
        "t.trial_started('t1', {'lr': 0.1}, {'kind': 'trial'})\n"
        "for i in range(1, 51): t.trial_epoch('t1', {'val/accuracy': i / 50}, i)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=root, check=False, stdin=subprocess.DEVNULL, env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL
    tracker = tracker_of(experiment)
    tracker.close()
    assert tracker.waiting == 0
    (run,) = search_runs("tags.kind = 'trial'")
    assert curve(experiment, run, "val/accuracy") == [(i, i / 50) for i in range(1, 51)]


def test_no_call_raises_when_the_disk_is_full(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = tracker_of(experiment)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        tell_trial(tracker, "t1")
    tracker.close()
    assert "No space left" in caplog.text
