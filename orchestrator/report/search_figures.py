"""The figures of a whole search, written into the run folder: best so far, parallel coordinates, importance of each knob."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.report.importance import active, importance_of
from orchestrator.report.plots import best_so_far, knob_importance, parallel_coordinates, save_figure
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace

if TYPE_CHECKING:
    from search_spaces.space import Space

MAX_KNOBS = 9
"""Axes of the parallel coordinates: the knobs that mattered most, or the space's first ones."""


def search_figures(
    workspace: Workspace, records: Sequence[MemberRecord], space: Space, *, metric: str = "accuracy"
) -> list[Path]:
    """Write the three figures of the search's trials (in the order given) and return the files."""
    trials = [record for record in records if record.kind == "trial"]
    baseline = next((record.score(metric) for record in records if record.kind == "baseline"), None)
    importance = importance_of(trials, space, metric=metric)
    names = list(importance.shares) or list(dict.fromkeys(dimension.name for dimension in space.dimensions))
    note = importance.note or f"importance for validation {metric}, {importance.trials} trials"
    drawn = [record.replace(config=active(space, record.config)) for record in trials]
    figures = {
        "best_so_far": best_so_far([record.score(metric) for record in trials], metric=metric, baseline=baseline),
        "parallel_coordinates": parallel_coordinates(drawn, metric=metric, names=names[:MAX_KNOBS]),
        "knob_importance": knob_importance(list(importance.shares), list(importance.shares.values()), title=note),
    }
    return [save_figure(figure, workspace.figures / "search" / f"{name}.png") for name, figure in figures.items()]
