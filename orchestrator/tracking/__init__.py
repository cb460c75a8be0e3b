"""Where scores go: a small Tracker protocol, a do-nothing twin, and MLflow behind its one door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.tracking.tracker import NullTracker, Tracker
from orchestrator.tracking.uri import NONE, artifacts_root, resolve_uri, shown

if TYPE_CHECKING:
    from orchestrator.config import Experiment
    from orchestrator.store.workspace import Workspace

__all__ = ["NullTracker", "Tracker", "artifacts_root", "open_tracker", "resolve_uri"]


def open_tracker(experiment: Experiment, workspace: Workspace) -> Tracker:
    """Return the tracker of a run folder; it is heard by MLflow from its own thread, and must be closed.

    Raises UserError for an address that MLflow would not take; a server that is down costs nothing but time in the journal.
    """
    uri = resolve_uri(experiment)
    if uri == NONE:
        return NullTracker()
    from orchestrator.tracking.journal import Journal
    from orchestrator.tracking.mlflow_runs import MlflowRuns, prepare_mlflow
    from orchestrator.tracking.mlflow_sink import MlflowSink
    from orchestrator.tracking.mlflow_tracker import MlflowTracker
    from orchestrator.tracking.provenance import git_revision, user_name

    prepare_mlflow(uri)
    name = experiment.tracking_experiment
    journal = Journal(workspace.journal, target=f"{uri}\n{name}")
    runs = MlflowRuns(uri, experiment=name, artifacts=artifacts_root(uri, experiment), search_id=journal.id)
    tags = {"git_revision": git_revision(Path.cwd()), "mlflow.user": user_name(), "mlflow.source.name": "orchestrate"}
    sink = MlflowSink(runs, name=experiment.name, tags=tags)
    return MlflowTracker(workspace, journal, sink, name=f"MLflow at {shown(uri)}")
