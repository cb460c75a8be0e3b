"""The search's figures are written for any number of trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.report.search_figures import search_figures
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from search_spaces import SPACES
from search_spaces.space import RandomTrial, draw


@pytest.mark.parametrize("count", [0, 1, 12])
def test_three_figures_are_written(tmp_path: Path, count: int) -> None:
    space = SPACES["scratch"]
    records = [
        MemberRecord(f"t{i}", "trial", "image", draw(space, RandomTrial(i)), 0, "h", "f", "finished", best_epoch=1,
                     metrics={"val/accuracy": i / 20})
        for i in range(count)
    ]  # fmt: skip
    workspace = Workspace(tmp_path / "run")
    paths = search_figures(workspace, records, space, metric="accuracy")
    assert [path.name for path in paths] == ["best_so_far.png", "parallel_coordinates.png", "knob_importance.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
