"""The search as a part of the whole way: it goes on by itself, is extended when more is asked for, and else passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Experiment
from orchestrator.context import open_run
from orchestrator.errors import UserError
from orchestrator.search.ledger import read_events
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search
from orchestrator.stages.search import run_or_resume_search, run_search_stage
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import NullTracker


def test_run_goes_on_extends_and_passes(small_experiment: Callable[..., Experiment], stage_folder: Path) -> None:
    made = small_experiment(stage_folder, "going-on")
    heard = iter([False])
    run_search(made, Workspace(made.run_path), NullTracker(), progress=Silent(), stop=lambda: next(heard, True))
    said: list[str] = []
    with open_run(made, said.append) as context:
        with pytest.raises(UserError, match="--resume"):
            run_search_stage(context)
        assert len(run_or_resume_search(context)) == 2
        assert "search: going on with what is there (0 of 2 trials done)" in said
        events = len(read_events(context.workspace.ledger))
        said.clear()
        assert len(run_or_resume_search(context)) == 2
        assert len(read_events(context.workspace.ledger)) == events and not any("going on" in line for line in said)
    more = made.model_copy(update={"search": made.search.model_copy(update={"trials": 3})})
    with open_run(more, said.append) as context:
        with pytest.raises(UserError, match="orchestrate extend 1 "):
            run_search_stage(context)
        assert len(run_or_resume_search(context)) == 3
        assert "search: going on with what is there (2 of 3 trials done)" in said
    with open_run(made, said.append) as context:
        assert len(run_or_resume_search(context)) == 3
        assert "search: 3 trials are there, more than the 2 asked for; all of them count" in said
