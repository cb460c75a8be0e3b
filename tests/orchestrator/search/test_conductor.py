"""What starts next: a round of population training goes on once every worker has let go of its trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.search.conductor import Conductor, Policy, Source
from orchestrator.search.population import Population
from orchestrator.search.progress import Silent
from orchestrator.search.schedulers import Verdict
from orchestrator.store.records import MemberRecord, TrialSpec
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker


class Proposer:
    """Proposes learning rates in order."""

    def ask(self, trial_id: str) -> dict[str, Any]:
        return {"lr": 0.01 * (int(trial_id[1:]) + 1)}

    def recall(self, trial_id: str, drawn: Mapping[str, Any]) -> None: ...

    def tell(self, trial_id: str, *, status: str, score: float, epoch: int) -> None: ...


def make(index: int, drawn: Mapping[str, Any]) -> TrialSpec:
    return TrialSpec(f"t{index:04d}", {"model": "cnn_a", "epochs": 4, "seed": index, **drawn})


def population(workspace: Workspace) -> Conductor:
    return Conductor(
        workspace, Policy("accuracy", max_failures=0, keep_weights=4, disk_cap_gb=1.0), tracker=NullTracker(),
        progress=Silent(), scheduler=Population(interval=2, seed=0, bounds={}), source=Source(Proposer(), make, total=2),
    )  # fmt: skip


def ended_for_good(workspace: Workspace, trial_id: str) -> None:
    """Leave what a worker leaves whose trial lost its patience at its second epoch."""
    workspace.save_record(
        MemberRecord(trial_id, "trial", "image", {}, 1, "", "", "finished", stop_reason="patience", epochs_run=2, best_epoch=2,
                     metrics={"val/accuracy": 0.5})
    )  # fmt: skip


def test_a_round_goes_on_without_a_trial_that_ended_with_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    conductor = population(workspace)
    specs = [conductor.next_spec(), conductor.next_spec()]
    assert [spec and spec.trial_id for spec in specs] == ["t0000", "t0001"]
    for trial_id in ("t0000", "t0001"):
        conductor.started(trial_id)
        assert conductor.epoch(trial_id, 1, {"val/accuracy": 0.5}) is Verdict.GO_ON
        assert conductor.epoch(trial_id, 2, {"val/accuracy": 0.5}) is Verdict.WAIT
    assert conductor.next_spec() is None, "both are still in their workers' hands"
    ended_for_good(workspace, "t0001")
    conductor.ended("t0001")
    assert conductor.next_spec() is None, "the other one is"
    conductor.ended("t0000")
    [again, nothing] = [conductor.next_spec(), conductor.next_spec()]
    assert again is not None and again.trial_id == "t0000" and nothing is None
    assert conductor.board.rows["t0001"].status == "finished"


def test_a_trial_that_ended_with_a_round_stays_ended_where_the_driver_died_before_it_heard(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    before = population(workspace)
    for trial_id in ("t0000", "t0001"):
        before.next_spec()
        before.started(trial_id)
        before.epoch(trial_id, 1, {"val/accuracy": 0.5})
        assert before.epoch(trial_id, 2, {"val/accuracy": 0.5}) is Verdict.WAIT
    ended_for_good(workspace, "t0001")
    after = population(workspace)
    [again, nothing] = [after.next_spec(), after.next_spec()]
    assert again is not None and again.trial_id == "t0000" and nothing is None
    assert after.board.rows["t0001"].status == "finished"
