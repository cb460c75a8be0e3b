"""A trial's figures are drawn from its history and its predictions in the bank, as far as they are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.report import trial_figures as module
from orchestrator.report.trial_figures import trial_figures
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace

RECORD = MemberRecord("t1", "trial", "image", {"model": "cnn_a"}, 0, "h", "f", "finished", best_epoch=1)
HISTORY = [{"train/loss": 1.0, "val/accuracy": 0.5}]


def test_both_figures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "run")
    bank = PredictionBank(workspace)
    bank.put_targets("val", np.array([0, 1, 1, 2]), list("abcd"), "f")
    bank.put("t1", "val", np.eye(3, dtype=np.float32)[[0, 1, 2, 2]] * 0.9 + 0.1 / 3)
    seen = {}
    draw = module.confusion_matrix
    monkeypatch.setattr(module, "confusion_matrix", lambda counts, *a, **k: seen.update(counts=counts) or draw(counts, *a, **k))
    paths = trial_figures(workspace, RECORD, HISTORY, ["a", "b", "c"])
    assert [path.relative_to(workspace.figures).as_posix() for path in paths] == [
        "trials/t1/learning_curves.png",
        "trials/t1/confusion_matrix.png",
    ]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert seen["counts"].tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_a_trial_without_predictions_or_history_has_fewer_figures(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    assert [path.name for path in trial_figures(workspace, RECORD, HISTORY, ["a", "b"])] == ["learning_curves.png"]
    assert trial_figures(workspace, RECORD, [], []) == []
