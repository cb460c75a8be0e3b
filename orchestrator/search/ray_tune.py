"""Ray Tune runs the trials: it places, starts and stops workers; the conductor says which, and what becomes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from orchestrator.config import Experiment, SearchSection
from orchestrator.errors import RunFailed
from orchestrator.search.conductor import Conductor
from orchestrator.search.interrupt import Ending, Signalled, raise_now, signals
from orchestrator.search.ledger import spec_to
from orchestrator.search.preflight import driver_token
from orchestrator.search.ray_cluster import Watchdog, places, share_out
from orchestrator.search.ray_nodes import Checks, Nodes
from orchestrator.search.ray_processes import Processes, ProcessesOn
from orchestrator.search.ray_session import ray_session
from orchestrator.search.ray_slots import Engines, EnginesOn, share_slots, told_of
from orchestrator.search.schedulers import Verdict
from orchestrator.store.workspace import Workspace
from trainables.data import DataConfig


def run_ray(
    conductor: Conductor, *, experiment: Experiment, data: DataConfig, workspace: Workspace, ending: Ending
) -> None:  # fmt: skip
    """Run the conductor's trials on Ray; raises Signalled after a clean stop, RunFailed when Ray itself is lost."""
    search = experiment.search
    job = {
        "data": dataclasses.asdict(data), "root": str(workspace.root), "metric": search.metric,
        "timeout_s": search.trial_timeout_s,
    }  # fmt: skip
    conductor.say("starting workers on Ray" if search.address == "local" else f"joining Ray at {search.address}")
    with signals(raise_now), ray_session(search), contextlib.ExitStack() as stack:
        nodes = None
        if search.address != "local":
            stack.enter_context(driver_token(workspace.root))
            checks = Checks(dataclasses.asdict(data), str(workspace.root), _tracking_server(experiment))
            need = {"CPU": search.cpus_per_trial, "GPU": max(search.gpus_per_trial, 0.0)}
            nodes = stack.enter_context(Nodes(checks, need))
        workers = _workers(search, job, nodes, conductor)
        watchdog = Watchdog()
        course = _Course(conductor, ending, watchdog, workers)
        with watchdog, signals(course.signalled):
            try:
                _fit(course, job, workspace.ray_results)
            finally:
                if found := workers.close():
                    sentence, facts = told_of(found)
                    conductor.note("slots", sentence, **facts)
        course.conclude()


class Workers(Protocol):
    """Where trials are trained: what Tune starts for each, how many at once, and what is told of each one's way."""

    trainable: Any

    @property
    def at_once(self) -> int:
        """Return how many trials may be under way now."""

    def place(self, trial_id: str) -> dict[str, Any]:
        """Return what a trial's worker must know beside its spec."""

    def ended(self, trial_id: str, *, lost: bool = False) -> None:
        """Hear that Tune is done with a trial, or has lost its worker."""

    def close(self) -> list[dict[str, Any]]:
        """End what the trials shared, and return what it has to say."""


def _workers(search: SearchSection, job: dict[str, Any], nodes: Nodes | None, conductor: Conductor) -> Workers:
    """Return where trials are trained: as many as fit on Ray's own node, or on a cluster's nodes as they come and go."""
    import ray

    def left() -> int:
        return conductor.left

    if nodes is not None:
        return EnginesOn(search, job, nodes, left) if search.backend == "slots" else ProcessesOn(search, nodes, left)
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if search.backend == "slots":
        return Engines(share_slots(search, cpus=cpus, gpus=gpus), job)
    share = share_out(search, cpus=cpus, gpus=gpus)
    return Processes(dataclasses.replace(share, trials=places(share, cpus=cpus, gpus=gpus, most=share.trials)))


def _tracking_server(experiment: Experiment) -> str:
    return experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")


class _Course:
    """What the pieces handed to Tune share: the conductor, the workers, and why it should end early, if it should."""

    def __init__(self, conductor: Conductor, ending: Ending, watchdog: Watchdog, workers: Workers) -> None:
        self.conductor, self._ending, self._watchdog, self.workers = conductor, ending, watchdog, workers
        self._signal = 0
        self._fault: BaseException | None = None

    def signalled(self, signum: int) -> None:
        """Ask for a clean end; where Ray is lost there is none to wait for."""
        if self._watchdog.lost:
            raise RunFailed(self._watchdog.lost)
        self._signal = signum

    @property
    def over(self) -> bool:
        """Return whether Tune should stop everything now."""
        return bool(self._signal or self._fault or self._watchdog.lost or self._ending.reason())

    def guarded(self, call: Callable[[], Any], otherwise: Any = None) -> Any:
        """Call the conductor; its first exception ends the search in good order instead of inside Tune."""
        if self._fault is not None:
            return otherwise
        try:
            return call()
        except Exception as error:
            self._fault = error
            return otherwise

    def conclude(self) -> None:
        """Raise what ended the search early."""
        if self._fault is not None:
            raise self._fault
        if self._signal:
            raise Signalled(self._signal)
        if self._watchdog.lost:
            raise RunFailed(self._watchdog.lost)


def _fit(course: _Course, job: dict[str, Any], storage: Path) -> None:
    """Hand everything to Tune and wait; what Tune raises after Ray was lost is that loss."""
    tuner = tune.Tuner(
        course.workers.trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Handout(course, job),
            scheduler=_Judge(course),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            verbose=0,
            callbacks=[_Teller(course)],
            stop=_Ender(course),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except Exception:
        if not course.over:
            raise


def _trial_id(trial: Any) -> str:
    """Return our own id of a Ray trial."""
    return str(json.loads(trial.config["job"])["spec"]["trial_id"])


def _name_of(trial: Any) -> str:
    """Return a short name that differs between attempts at one trial."""
    return f"{_trial_id(trial)}_{trial.trial_id}"


class _Stateless:
    """Tune pickles what it is given for its snapshots; ours hold a live search, and nothing is ever restored from them."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Handout(_Stateless, Searcher):  # type: ignore[misc]  # Ray is not typed
    """Hands out the conductor's next trial, when there is one and room for it."""

    def __init__(self, course: _Course, job: dict[str, Any]) -> None:
        super().__init__()
        self._course, self._job = course, job

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        """Return a trial's config, None for "not now", or FINISHED."""
        conductor, workers = self._course.conductor, self._course.workers
        at_once = self._course.guarded(lambda: workers.at_once, 0)  # a cluster's nodes are looked at, and may be found unfit
        if self._course.over or conductor.live >= at_once:
            return None
        spec = self._course.guarded(conductor.next_spec)
        if spec is None:
            return Searcher.FINISHED if conductor.finished else None
        return {"job": json.dumps({**self._job, **workers.place(spec.trial_id), "spec": spec_to(spec)})}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the conductor hears it from the callback."""

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file, which Tune expects."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


class _Judge(_Stateless, FIFOScheduler):  # type: ignore[misc]  # Ray is not typed
    """Asks the conductor after every epoch."""

    def __init__(self, course: _Course) -> None:
        super().__init__()
        self._course = course

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Tell the conductor of an epoch and do as it says."""
        if "outcome" not in result:
            return str(TrialScheduler.CONTINUE)
        told = json.loads(result["outcome"])
        conductor, trial_id = self._course.conductor, _trial_id(trial)
        verdict = self._course.guarded(lambda: conductor.epoch(trial_id, told["epoch"], told["metrics"]), Verdict.GO_ON)
        go_on = verdict is Verdict.GO_ON or told["done"]
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)


class _Teller(_Stateless, TrialProgressCallback):  # type: ignore[misc]  # Ray is not typed
    """Tells the conductor of starts and ends, in the place of the callback that would print on standard output."""

    def __init__(self, course: _Course) -> None:
        super().__init__()
        self._course = course

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:  # noqa: ARG002
        """Do nothing: the conductor hears it from the scheduler, which needs its answer."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Tell of a start."""
        self._course.guarded(lambda: self._course.conductor.started(_trial_id(trial)))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Tell of an end, by the worker or by us."""
        self._course.workers.ended(_trial_id(trial))
        self._course.guarded(lambda: self._course.conductor.ended(_trial_id(trial)))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Tell of a worker that died."""
        reason = str(trial.get_error() or "its process died: killed, out of memory, or its node is gone")
        self._course.workers.ended(_trial_id(trial), lost=True)
        error = f"WorkerLost: {reason.strip().splitlines()[-1]}"
        self._course.guarded(lambda: self._course.conductor.ended(_trial_id(trial), error=error))


class _Ender(_Stateless, Stopper):  # type: ignore[misc]  # Ray is not typed
    """Stops the whole experiment when it should end early."""

    def __init__(self, course: _Course) -> None:
        self._course = course

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Leave single trials to the scheduler."""
        return False

    def stop_all(self) -> bool:
        """Return whether to end; a cluster's nodes are looked at here, since no trial may be to start for a long while."""
        self._course.guarded(lambda: self._course.workers.at_once)
        return self._course.over
