"""A trial's end as its worker left it: files that may be of two epochs are no best epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.search.ending import final_record
from orchestrator.search.ledger import TrialLog
from orchestrator.search.schedulers import Verdict
from orchestrator.store.records import MemberRecord, TrialSpec
from orchestrator.store.workspace import Workspace


@pytest.mark.parametrize("torn", [False, True])
def test_a_worker_lost_while_it_replaced_the_best_epoch_leaves_none(torn: bool, tmp_path: Path) -> None:
    workspace, metrics = Workspace(tmp_path), {"val/accuracy": 0.5}
    workspace.save_record(
        MemberRecord("t0", "trial", "image", {}, 0, "", "", "running", epochs_run=3, best_epoch=2, metrics=metrics)
    )
    if torn:
        workspace.torn("t0").touch()
    log = TrialLog(TrialSpec("t0", {}), TrialSpec("t0", {}), {})
    ended = final_record(workspace, log, verdict=Verdict.STOP, error="", reason="time_budget", fingerprint="")
    assert (ended.status, ended.usable) == ("stopped", not torn)
    assert (ended.best_epoch, ended.metrics) == ((0, {}) if torn else (2, metrics))
