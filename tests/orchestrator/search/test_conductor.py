"""What starts next: a round of population training goes on once every worker has let go of its trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from search_fakes import Heard

from orchestrator.search.conductor import Conductor, Policy, Source
from orchestrator.search.population import Population
from orchestrator.search.progress import Progress, Silent
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


def population(workspace: Workspace, progress: Progress | None = None) -> Conductor:
    return Conductor(
        workspace, Policy("accuracy", max_failures=0, keep_weights=4, disk_cap_gb=1.0), tracker=NullTracker(),
        progress=progress or Silent(), scheduler=Population(interval=2, seed=0, bounds={}),
        source=Source(Proposer(), make, total=2),
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


@pytest.mark.parametrize(("width", "takes"), [(16, True), (8, False)])
def test_a_round_says_who_takes_over_whose_state_or_that_nobody_can(tmp_path: Path, width: int, takes: bool) -> None:
    conductor = population(Workspace(tmp_path), heard := Heard())
    assert conductor._source is not None
    conductor._source = dataclasses.replace(
        conductor._source, make=lambda i, drawn: make(i, {**drawn, "width": width if i else 16})
    )
    for trial_id, score in (("t0000", 0.5), ("t0001", 0.25)):
        conductor.next_spec()
        conductor.started(trial_id)
        for epoch in (1, 2):
            conductor.epoch(trial_id, epoch, {"val/accuracy": score})
    for trial_id in ("t0000", "t0001"):
        Workspace(tmp_path).checkpoints(trial_id).mkdir(parents=True)
        conductor.ended(trial_id)
    assert conductor.next_spec() is not None
    told = [event for event in heard.events if "goes on from" in event or "could take over" in event]
    assert told == (
        ["t0001 goes on from t0000: lr 0.02 -> 0.01"]
        if takes
        else ["a round is over in which no trial could take over another's state: that takes two of the same shape"]
    )


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
