"""A whole search, or a fixed list of trainings, from an experiment: opened, run on its backend, closed, and gone on with."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.errors import Interrupted, RunFailed, UserError
from orchestrator.search.algorithms import derive_seed, make_proposer, point_in
from orchestrator.search.conductor import Conductor, Figures, Policy, Source, Worth
from orchestrator.search.identity import check_identity, check_spec, identity, known
from orchestrator.search.interrupt import ASKED, TIME_BUDGET, Ending, Signalled
from orchestrator.search.ledger import Event, Standing, read_events, standing_of, trial_logs
from orchestrator.search.lock import driver_lock
from orchestrator.search.progress import Progress, open_progress
from orchestrator.search.schedulers import make_scheduler
from orchestrator.search.targets import splits_of_run
from orchestrator.store.records import MemberRecord, TrialSpec, mode_of
from orchestrator.store.workspace import Workspace, read_json
from orchestrator.tracking.tracker import NullTracker, Tracker
from search_spaces.space import Float, Space

if TYPE_CHECKING:
    from trainables.data import DataConfig

Stop = Callable[[], bool]


def run_search(
    experiment: Experiment, workspace: Workspace, tracker: Tracker, *, resume: bool = False, extra_trials: int = 0,
    progress: Progress | None = None, stop: Stop | None = None, figures: Figures | None = None, worth: Worth | None = None,
    again: str = "",
) -> list[MemberRecord]:  # fmt: skip
    """Search and return the trials' records in order; raises UserError, RunFailed, or Interrupted on a signal.

    A finished search is returned as it is; an unfinished one needs `resume`, and so does one that is to have more trials.
    With it finished trials stay, unfinished ones go on under their ids, the proposer and the scheduler know all that was, and
    `extra_trials` come on top. `worth` says what the searcher is told of a trial where that is not its own score (less is
    better, whatever the metric). `again` is the command that goes on, for whoever reads that it ended early.
    """
    with driver_lock(workspace.lock):
        events = events_of(workspace)
        check_identity(experiment, events, workspace.root)
        standing = standing_of(events)
        if standing.trials and not resume:
            _refuse_more(experiment, workspace, standing)
            return [workspace.load_record(i) for i, log in trial_logs(events).items() if log.spec.kind == "trial"]
        total = max(experiment.search.trials, standing.total) + extra_trials

        def prepare(conductor: Conductor) -> None:
            conductor.opened(total=total, algorithm=experiment.search.algorithm, scheduler=experiment.search.scheduler)

        source = _source(experiment, workspace, total)
        return _conduct(
            experiment, workspace, tracker, events, prepare=prepare, source=source, progress=progress, stop=stop,
            figures=figures, worth=worth, again=again or f"orchestrate search {shlex.quote(str(workspace.root))} --resume",
        )  # fmt: skip


def run_specs(
    experiment: Experiment, workspace: Workspace, tracker: Tracker, specs: Sequence[TrialSpec], *,
    progress: Progress | None = None, stop: Stop | None = None, figures: Figures | None = None, again: str = "",
) -> list[MemberRecord]:  # fmt: skip
    """Train a fixed list (baseline, refits, bags) and return their records in its order.

    Those that ended before are not run again, unfinished ones go on from their checkpoints, and those that came to no epoch
    are made anew; one that is there under its id with another configuration raises UserError.
    """
    with driver_lock(workspace.lock):
        events = events_of(workspace)
        check_identity(experiment, events, workspace.root)
        logs = {trial_id: log for trial_id, log in trial_logs(events).items() if not log.barren}
        for spec in specs:
            if spec.trial_id in logs:
                check_spec(logs[spec.trial_id].first, spec, workspace.root)
        if all(spec.trial_id in logs and logs[spec.trial_id].status for spec in specs):
            return [workspace.load_record(spec.trial_id) for spec in specs]

        def prepare(conductor: Conductor) -> None:
            conductor.add_specs(specs)

        return _conduct(
            experiment, workspace, tracker, events, prepare=prepare, source=None, progress=progress, stop=stop,
            figures=figures, again=again or f"orchestrate run {shlex.quote(str(workspace.root))}",
        )  # fmt: skip


def events_of(workspace: Workspace) -> list[Event]:
    """Return the events of a run folder's ledger; raises UserError for a broken one."""
    try:
        return read_events(workspace.ledger)
    except ValueError as error:
        raise UserError(str(error)) from error


def _refuse_more(experiment: Experiment, workspace: Workspace, standing: Standing) -> None:
    """Raise UserError for a search that is not finished, or that has fewer trials than are asked for."""
    root, wanted = shlex.quote(str(workspace.root)), experiment.search.trials
    if not standing.complete:
        raise UserError(
            f"{workspace.root}: holds a search of {standing.trials} trials, {standing.unfinished} of them unfinished; go on "
            f"with `orchestrate search {root} --resume`, or start another with -o name=NAME"
        )
    if wanted > standing.total:
        raise UserError(
            f"search.trials: {wanted} asked for, the finished search in {workspace.root} has {standing.trials}; add to it with "
            f"`orchestrate extend {wanted - standing.total} {root}`, or start another with -o name=NAME"
        )


def _conduct(
    experiment: Experiment, workspace: Workspace, tracker: Tracker, events: Sequence[Event], *,
    prepare: Callable[[Conductor], None], source: Source | None, progress: Progress | None, stop: Stop | None,
    figures: Figures | None, again: str, worth: Worth | None = None,
) -> list[MemberRecord]:  # fmt: skip
    """Run a search or a list on the experiment's backend, with everything opened before and closed after."""
    from orchestrator.resolve import data_config

    search = experiment.search
    data = data_config(experiment)
    fingerprint = splits_of_run(workspace, data, "val", "test").fingerprint
    policy = Policy(search.metric, search.max_failures, search.keep_weights, search.disk_cap_gb, fingerprint)
    scheduler = _scheduler(experiment) if source is not None else None
    ending = Ending(time_budget_s=search.time_budget_s if source is not None else 0.0, stop=stop)
    heads = source is not None or not standing_of(events).trials  # refits do not reopen the search's own run
    if heads:
        tracker.search_started(_params(experiment), {"data_fingerprint": fingerprint})
    conductor = Conductor(
        workspace, policy, tracker=tracker, progress=progress or open_progress("training" if source is None else "search"),
        scheduler=scheduler, source=source, figures=figures, worth=worth,
    )  # fmt: skip
    with _closing(conductor, tracker if heads else NullTracker(), again, metric=search.metric if source is not None else ""):
        made_of = identity(experiment, search=source is not None)
        if known(events) | made_of != known(events):
            conductor.identity(made_of)
        prepare(conductor)
        if conductor.pending:
            _run_backend(conductor, experiment, data, workspace, ending, alone=source is None and len(conductor.ids) == 1)
            conductor.tidy()
        reason = ending.reason() if not conductor.finished else ""
        if reason == TIME_BUDGET:
            conductor.stop_all(TIME_BUDGET)
        elif reason == ASKED:
            conductor.interrupted(ASKED)
        elif source is not None:
            conductor.completed()
    return [workspace.load_record(t) for t in conductor.ids if workspace.record(t).exists()]


def _run_backend(
    conductor: Conductor, experiment: Experiment, data: DataConfig, workspace: Workspace, ending: Ending, *, alone: bool
) -> None:
    """Run the trials on Ray, or in this process: as asked, or because starting Ray for one training of its own buys nothing."""
    search = experiment.search
    if search.backend == "local" or (alone and search.address == "local"):
        from orchestrator.search.local import run_local

        run_local(conductor, data=data, root=str(workspace.root), metric=search.metric, ending=ending)
        return
    from orchestrator.search.ray_session import begin_ray, one_ray
    from trainables.allocator import collector_at_rest

    with one_ray():
        with collector_at_rest():
            begin_ray(search)  # while Tune is imported
            from orchestrator.search.ray_tune import run_ray

        run_ray(conductor, experiment=experiment, data=data, workspace=workspace, ending=ending)


@contextlib.contextmanager
def _closing(conductor: Conductor, tracker: Tracker, again: str, *, metric: str) -> Iterator[None]:
    """Close the ledger and the parent run whatever happens, and turn a signal into the error that the command line shows.

    The parent run is told the best score and the number of trials of a search, whose `metric` it is.
    """
    status = "failed"
    try:
        yield
        status = "finished"
    except Signalled as signal:
        status = "interrupted"
        conductor.interrupted(str(signal))
        raise Interrupted(f"{signal}; {_go_on(conductor, again)}", signal.exit_code) from None
    except RunFailed as error:
        conductor.interrupted(str(error))
        raise RunFailed(f"{error}; {_go_on(conductor, again)}") from error
    finally:
        conductor.close()
        best = conductor.board.best
        metrics = {f"best/val/{metric}": best.best} if best else {}
        tracker.search_ended(status, {**metrics, "trials": float(len(conductor.ids))} if metric else {})


def _go_on(conductor: Conductor, again: str) -> str:
    done = f"{conductor.board.count('finished', 'stopped')} of {conductor.board.total} trials are done"
    return f"{done} and everything is kept; go on with `{again}`"


def _params(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "seed": experiment.seed,
        **{f"search.{k}": v for k, v in experiment.search.model_dump().items()},
    }


def _scheduler(experiment: Experiment) -> Any:
    search = experiment.search
    bounds = {d.name: (d.low, d.high) for d in _space(experiment).dimensions if isinstance(d, Float)}
    return make_scheduler(
        search.scheduler, grace=search.grace_epochs, reduction=search.reduction_factor, seed=experiment.seed, bounds=bounds
    )


def _space(experiment: Experiment, workspace: Workspace | None = None) -> Space:
    """Return the space, narrowed by the diagnosis that the run folder holds."""
    from orchestrator.resolve import space_of

    diagnosis = read_json(workspace.diagnosis) if workspace is not None and workspace.diagnosis.exists() else None
    return space_of(experiment, diagnosis)


def _source(experiment: Experiment, workspace: Workspace, total: int) -> Source:
    """Return where trials come from, the baseline's point first where it lies in the space."""
    from orchestrator.resolve import baseline_config, fixed_config, places_of

    search = experiment.search
    space = _space(experiment, workspace)
    fixed = fixed_config(experiment)

    def make(index: int, drawn: Mapping[str, Any]) -> TrialSpec:
        return TrialSpec("", {**fixed, **drawn, "seed": derive_seed(experiment.seed, "trial", index)})

    point = point_in(space, baseline_config(experiment)) if search.seed_baseline else None
    try:
        proposer = make_proposer(
            search.algorithm, space, seed=experiment.seed, trials=total, points=[point] if point else [],
            mode=mode_of(search.metric) if search.objective == "own" else "min",
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error
    return Source(proposer, make, total, places_of(fixed))
