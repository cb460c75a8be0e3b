"""The end of a run: which rows the small table shows, and the whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.stages.controls import SEEDS
from orchestrator.stages.summary import print_ensemble, print_summary
from orchestrator.store.workspace import Workspace, read_json, write_json


@pytest.fixture
def workspace(bagged_run: Any, tmp_path: Path) -> Workspace:
    """A run whose ensemble has three members, and whose seed ensemble lacks one."""
    found = read_json(bagged_run.context.workspace.ensemble)
    rows = [row for row in found["judgement"]["rows"] if row["name"] != SEEDS]
    next(row for row in rows if row["name"] == "ensemble")["members"] = 3
    write_json(
        tmp_path / "ensemble.json",
        {**found, "judgement": {**found["judgement"], "rows": [*rows, {**rows[0], "name": SEEDS, "members": 2}]}},
    )
    return Workspace(tmp_path)


def shown(printed: str) -> dict[str, str]:
    """Return first column -> second column of a printed table."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    return {cells[0]: cells[1] for cells in lines}


def test_the_small_table_has_baseline_single_seeds_greedy_and_what_was_chosen(workspace: Workspace, capsys: Any) -> None:
    print_summary(workspace)
    found = shown(capsys.readouterr().out)
    assert list(found) == ["baseline", "best single", "seed ensemble", "greedy ensemble", "convex ensemble"]
    assert found["convex ensemble"] == "3"
    assert found["seed ensemble"] == "2 of 3", "fewer than the ensemble has"


def test_the_whole_table_has_every_control(workspace: Workspace, capsys: Any) -> None:
    print_ensemble(workspace)
    found = shown(capsys.readouterr().out)
    assert {"best single + TTA", "bagged", "boosted", "uniform top-k", "cascade", "greedy ensemble"} <= set(found)
