"""What stays on the disk: the best weights under a cap, every probability, no checkpoints of what ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.search.retention import Retention
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace, write_json

MB = 10**6


def member(workspace: Workspace, trial_id: str, score: float, *, status: str = "finished", kind: str = "trial") -> None:
    record = MemberRecord(trial_id, kind, "image", {}, 0, "", "", status, best_epoch=1, metrics={"val/accuracy": score})
    workspace.save_record(record)
    workspace.weights(trial_id).write_bytes(bytes(MB))
    workspace.predictions(trial_id, "val").write_bytes(b"kept")
    (workspace.checkpoints(trial_id) / "epoch-1").mkdir(parents=True)
    (workspace.checkpoints(trial_id) / "epoch-1" / "state.pt").write_bytes(bytes(2 * MB))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for trial_id, score in {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.7}.items():
        member(workspace, trial_id, score)
    member(workspace, "baseline", 0.05, kind="baseline")
    member(workspace, "running", 0.2, status="running")
    member(workspace, "broken", 0.99, status="failed")
    return workspace


def kept(workspace: Workspace) -> set[str]:
    return {path.parent.name for path in workspace.members.glob("*/weights.safetensors")}


def test_the_best_keep_their_weights_and_ended_ones_lose_their_checkpoints(workspace: Workspace) -> None:
    gone = Retention(workspace, "accuracy", keep=2, cap_gb=1).tidy(unfinished=["running"])
    assert set(gone) == {"a", "c", "broken"} and kept(workspace) == {"b", "d", "baseline", "running"}
    assert [path.parent.name for path in workspace.members.glob("*/checkpoints")] == ["running"]
    assert len(list(workspace.members.glob("*/val.npy"))) == len(list(workspace.members.glob("*/record.json"))) == 7
    assert Retention(workspace, "accuracy", keep=2, cap_gb=1).tidy(unfinished=["running"]) == []


def test_one_that_failed_and_waits_for_its_next_attempt_keeps_everything(workspace: Workspace) -> None:
    gone = Retention(workspace, "accuracy", keep=2, cap_gb=1).tidy(unfinished=["broken", "a", "running"])
    assert set(gone) == {"c"} and {"broken", "a"} <= kept(workspace)
    assert {path.parent.name for path in workspace.members.glob("*/checkpoints")} == {"running", "broken", "a"}


def test_members_that_end_one_by_one_leave_what_all_at_once_would(workspace: Workspace) -> None:
    one_by_one = Retention(workspace, "accuracy", keep=2, cap_gb=0.0045)
    for step, trial_id in enumerate(("running", "broken", "later")):
        if trial_id == "later":
            member(workspace, "later", 0.8)
        ended = workspace.load_record(trial_id).replace(status="finished", best_epoch=1)
        workspace.save_record(ended)
        one_by_one.tidy(ended, unfinished=[["broken"], [], []][step])
        assert not workspace.checkpoints(trial_id).exists()
    left = kept(workspace)
    assert Retention(workspace, "accuracy", keep=2, cap_gb=0.0045).tidy() == []
    assert left == kept(workspace) == {"broken", "b", "baseline"}


def test_states_written_after_a_trials_end_go_with_a_sweep(workspace: Workspace) -> None:
    retention = Retention(workspace, "accuracy", keep=4, cap_gb=1)
    retention.tidy(unfinished=["running", "a"])
    for late in ("b", "running", "a"):
        (workspace.checkpoints(late) / "epoch-2").mkdir(parents=True)
    retention.sweep(unfinished=["running", "a"])
    assert {path.parent.name for path in workspace.members.glob("*/checkpoints")} == {"running", "a"}


def test_lower_is_better_where_it_is(workspace: Workspace) -> None:
    for trial_id in "abcd":
        record = workspace.load_record(trial_id)
        workspace.save_record(record.replace(metrics={"val/log_loss": record.score("accuracy")}))
    Retention(workspace, "log_loss", keep=1, cap_gb=1).tidy(unfinished=["running"])
    assert kept(workspace) & set("abcd") == {"a"}


def test_beyond_the_cap_the_lowest_go_first_and_the_best_never(workspace: Workspace) -> None:
    write_json(workspace.ensemble, {"members": [{"trial_id": "c", "weight": 0.5}]})
    Retention(workspace, "accuracy", keep=4, cap_gb=0.0045).tidy(
        unfinished=["running"]
    )  # 2 MB of a running checkpoint, room for two weights
    assert kept(workspace) == {"b", "c", "running"}, "not a and d, which nobody chose, nor the lower ranked baseline"
    Retention(workspace, "accuracy", keep=4, cap_gb=1e-9).tidy(unfinished=["running"])
    assert kept(workspace) == {"b", "running"}


def test_members_of_the_chosen_ensemble_keep_their_weights_whatever_their_rank(workspace: Workspace) -> None:
    write_json(workspace.ensemble, {"weights": {"a": 1.0}})
    Retention(workspace, "accuracy", keep=1, cap_gb=1).tidy(unfinished=["running"])
    assert kept(workspace) == {"a", "b", "baseline", "running"}


def test_a_checkpoint_that_a_worker_renames_meanwhile_costs_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft is there when the folder is listed, and gone when it is looked into."""
    draft = workspace.checkpoints("running") / ".epoch-2.draft"
    draft.mkdir()
    real, vanished = os.scandir, []

    def scandir(path: Any) -> Any:
        if not isinstance(path, int) and Path(path) == draft:
            vanished.append(draft)
            draft.rmdir()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert Retention(workspace, "accuracy", keep=10, cap_gb=1.0).tidy(unfinished=["running"]) == ["broken"]
    assert vanished == [draft]
