"""What every stage of one run shares: the experiment, its run folder, the tracker and a voice; opened once, closed always."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.store.workspace import Workspace, read_json, write_json
from orchestrator.tracking.tracker import Tracker

if TYPE_CHECKING:
    from trainables.data.dataset import DataConfig, Splits

Say = Callable[[str], None]
"""Takes one line for the person watching (standard error, never standard output)."""


@dataclass(frozen=True)
class Context:
    """One open run."""

    experiment: Experiment
    workspace: Workspace
    tracker: Tracker
    say: Say

    @property
    def data(self) -> DataConfig:
        """Return where the images are and how they are split."""
        from orchestrator.resolve import data_config

        return data_config(self.experiment)

    def splits(self) -> Splits:
        """Return the decoded splits (from the node's cache)."""
        from trainables.data import load_splits

        return load_splits(self.data)


@contextmanager
def open_run(experiment: Experiment, say: Say) -> Iterator[Context]:
    """Lock the run folder, remember the resolved experiment there, open the tracker; close both whatever happens."""
    from orchestrator.search.lock import driver_lock
    from orchestrator.tracking import open_tracker, resolve_uri
    from orchestrator.tracking.preflight import check_tracking

    workspace = Workspace(experiment.run_path)
    _make_folder(workspace)
    check_tracking(resolve_uri(experiment))
    with driver_lock(workspace.lock):
        write_json(workspace.experiment, experiment.model_dump(mode="json"))
        tracker = open_tracker(experiment, workspace)
        try:
            yield Context(experiment, workspace, tracker, say)
        finally:
            tracker.close()


def stored_experiment(workspace: Workspace) -> Experiment:
    """Return the experiment a run folder was started with; raises UserError when there is none."""
    if not workspace.experiment.exists():
        raise UserError(f"{workspace.root}: no run here (no experiment.json); start one with `orchestrate run`")
    return Experiment.model_validate(read_json(workspace.experiment), strict=False)


def _make_folder(workspace: Workspace) -> None:
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"run_dir: cannot create {workspace.root} ({error.strerror}); choose another: -o run_dir=PATH"
        ) from error
    if not os.access(workspace.root, os.W_OK):
        raise UserError(f"run_dir: {workspace.root} is not writable; choose another with -o run_dir=PATH")
