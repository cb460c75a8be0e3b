"""What every stage of one run shares: the experiment, its run folder, the tracker and a voice; opened once, closed always."""

from __future__ import annotations

import os
import shlex
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import Experiment
from orchestrator.errors import Interrupted, RunFailed, UserError
from orchestrator.store.workspace import Workspace, read_json, write_json
from orchestrator.tracking.tracker import Tracker

if TYPE_CHECKING:
    from orchestrator.store.records import MemberRecord, TrialSpec
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
    again: str = ""
    """The command that goes on where this one is interrupted."""

    @property
    def data(self) -> DataConfig:
        """Return where the images are and how they are split."""
        from orchestrator.resolve import data_config

        return data_config(self.experiment)

    def splits(self) -> Splits:
        """Return the decoded splits, loaded once a process; raises UserError, also for other data than the run holds."""
        from orchestrator.search.targets import splits_of_run

        return splits_of_run(self.workspace, self.data, "val")

    def train(self, specs: Sequence[TrialSpec]) -> list[MemberRecord]:
        """Train a list of specs (those that ended before are not run again) and return their records in its order."""
        from orchestrator.search.run import run_specs

        return run_specs(self.experiment, self.workspace, self.tracker, specs, again=self.again) if specs else []


@contextmanager
def open_run(
    experiment: Experiment, say: Say, *, verb: str = "run", once: Sequence[str] = (), searches: bool = False
) -> Iterator[Context]:  # fmt: skip
    """Lock the run folder, remember the experiment there, open the tracker; close all whatever happens.

    `once` holds overrides (KEY=VALUE) of this opening alone: they are not remembered. `searches` says that trials are to be
    trained: Ray is brought up while the tracker opens. Whatever the stages train shares one Ray. What the run folder's models
    were made with cannot change: raises UserError, and the folder stays as it was.
    """
    from orchestrator.experiment_file import override
    from orchestrator.experiment_file.places import absolute
    from orchestrator.search.identity import check_identity
    from orchestrator.search.ledger import standing_of
    from orchestrator.search.lock import driver_lock
    from orchestrator.search.ray_session import one_ray
    from orchestrator.search.run import events_of
    from orchestrator.tracking import open_tracker, resolve_uri
    from orchestrator.tracking.preflight import check_tracking
    from trainables.allocator import collector_at_rest

    lasting = absolute(experiment)
    now = override(lasting, once)
    workspace = Workspace(now.run_path)
    _make_folder(workspace)
    check_tracking(resolve_uri(now))
    with driver_lock(workspace.lock), one_ray(), _crash_logged(workspace):
        events = events_of(workspace)
        check_identity(now, events, workspace.root)
        standing = standing_of(events)
        if searches and (not standing.trials or verb == "run" and not standing.complete):
            _begin_ray(now, workspace)
        if not events:  # a new run's folder says how to go on, however soon this is interrupted
            _remember(workspace, lasting)
        with collector_at_rest():
            opened = open_tracker(now, workspace)
        with closing(opened) as tracker:
            _remember(workspace, lasting)
            yield Context(now, workspace, tracker, say, how_to_go_on(verb, workspace.root, now.search.address))


def stored_experiment(folder: Path) -> Experiment:
    """Return the experiment that a run folder was started with, lying where it lies now; raises UserError for no run."""
    from orchestrator.experiment_file.places import lying_at

    workspace = Workspace(folder)
    if not workspace.experiment.exists():
        raise UserError(f"{workspace.root}: no run here (no experiment.json); start one with `orchestrate run`")
    try:
        stored = Experiment.model_validate(read_json(workspace.experiment), strict=False)
    except ValueError as error:
        raise UserError(f"{workspace.experiment}: cannot be read ({error}); name the experiment file instead") from error
    return lying_at(stored, folder)


def _begin_ray(experiment: Experiment, workspace: Workspace) -> None:
    """Begin to bring Ray up, once the data is there: what is wrong with either is said before anything is started."""
    from orchestrator.resolve import data_config
    from orchestrator.search.address import check_address
    from orchestrator.search.ray_session import begin_ray
    from orchestrator.search.targets import splits_of_run

    if experiment.search.backend != "local":
        check_address(experiment.search.address)
        splits_of_run(workspace, data_config(experiment), "val")
        begin_ray(experiment.search)


def _remember(workspace: Workspace, experiment: Experiment) -> None:
    values = experiment.model_dump(mode="json")
    with suppress(FileNotFoundError, ValueError):
        if read_json(workspace.experiment) == values:
            return
    write_json(workspace.experiment, values)


def how_to_go_on(verb: str, root: Path, address: str) -> str:
    """Return the command that goes on with a run where it was left."""
    resume = " --resume" if verb == "search" else ""
    where = "" if address == "local" else f" --address {shlex.quote(address)}"
    return f"orchestrate {verb} {shlex.quote(str(root))}{resume}{where}"


@contextmanager
def _crash_logged(workspace: Workspace) -> Iterator[None]:
    """Keep the traceback of what nobody thought of in the run folder, and let the error say where."""
    try:
        yield
    except (UserError, RunFailed, Interrupted):
        raise
    except Exception as error:
        with suppress(OSError):
            workspace.crash_log.write_text("".join(traceback.format_exception(error)))
            error.add_note(f"traceback in {workspace.crash_log}")
        raise


def _make_folder(workspace: Workspace) -> None:
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"run_dir: cannot create {workspace.root} ({error.strerror}); choose another: -o run_dir=PATH"
        ) from error
    if not os.access(workspace.root, os.W_OK):
        raise UserError(f"run_dir: {workspace.root} is not writable; choose another with -o run_dir=PATH")
