"""One trial from its newest checkpoint to its end: knows no Ray, no tracker, no other trial."""

from __future__ import annotations

import dataclasses
import functools
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.search.ending import SCHEDULER
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, TrialSpec, mode_of
from orchestrator.store.workspace import Workspace
from trainables import load_trainable
from trainables.config import OPEN, TrainConfig, config_hash
from trainables.contract import NonFiniteLoss, Outcome, Trainable
from trainables.data import DataConfig, Splits, load_splits

Report = Callable[[Outcome], bool]
"""Hears of every epoch; False ends the trial."""
Build = Callable[[TrainConfig, Splits], Trainable]
"""Makes the model in training, in place of the class that the spec names."""


@functools.lru_cache(maxsize=2)
def splits_of(data: DataConfig) -> Splits:
    """Return the decoded splits, loaded once a process: workers run one trial after another."""
    return load_splits(data)


@dataclass
class _Course:
    """How far a trial has come: what its record says, and what a checkpoint must hold beside the model's state."""

    epoch: int = 0
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    done: bool = False
    stop_reason: str = ""
    seconds: float = 0.0

    def take(self, outcome: Outcome, key: str, sign: float) -> bool:
        """Take in an epoch; returns whether it is the best so far (the first of equals stays)."""
        self.epoch, self.last = outcome.epoch, dict(outcome.metrics)
        self.done, self.stop_reason = outcome.done, outcome.stop_reason
        score = outcome.metrics.get(key, float("nan"))
        better = score == score and (not self.best_epoch or sign * score > sign * self.best[key])
        if better:
            self.best_epoch, self.best = outcome.epoch, dict(outcome.metrics)
        return better


def run_trial(
    spec: TrialSpec, *, data: DataConfig, root: str, metric: str, report: Report, build: Build | None = None
) -> MemberRecord:
    """Train `spec` to its end, or until `report` says False, and return its record; it goes on from its newest checkpoint.

    After each epoch: checkpoint; where it is the best so far, validation probabilities and weights; record; report. An epoch
    that was trained but perhaps not heard of is reported again first. Whatever goes wrong inside is a failed record with
    the reason, never an exception; a loss that is not finite keeps the best epoch before it.
    """
    workspace = Workspace(root)
    seed = int(spec.config.get("seed", 0))
    record = MemberRecord(
        spec.trial_id, spec.kind, spec.trainable, dict(spec.config), seed, "", "", "running", parent=spec.parent
    )  # fmt: skip
    try:
        config = _as_before(workspace, spec.trial_id, TrainConfig.from_dict(spec.config))
        splits = splits_of(data)
        record = record.replace(
            config=config.to_dict(), seed=config.seed, config_hash=config_hash(config), data_fingerprint=splits.fingerprint
        )
        model = (build or load_trainable(spec.trainable))(config, splits)
        used = getattr(model, "config", None)
        if isinstance(used, TrainConfig):  # with what "auto" stands for on this device
            record = record.replace(config=used.to_dict(), config_hash=config_hash(used))
        trial = _Trial(record, model, workspace, metric)
        return trial.run(report)
    except Exception as error:
        record = _left(workspace, record)
        text = f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-6:])}"
        record = record.replace(status="failed", stop_reason="", error=text[:8000])
        workspace.save_record(record)
        return record


class _Trial:
    """A trainable on its way, with the files that follow it."""

    def __init__(self, record: MemberRecord, model: Trainable, workspace: Workspace, metric: str) -> None:
        self._record, self._model, self._workspace = record, model, workspace
        self._bank = PredictionBank(workspace)
        self._key, self._sign = f"val/{metric}", 1.0 if mode_of(metric) == "max" else -1.0
        self._course = _Course()

    def run(self, report: Report) -> MemberRecord:
        """Train on to the end; see `run_trial`."""
        self._resume()
        before, started = self._course.seconds, time.monotonic()
        self._note("running")
        if self._course.epoch and not report(self._outcome()):
            return self._note("stopped", SCHEDULER)
        while not self._course.done:
            try:
                outcome = self._model.step()
            except NonFiniteLoss as error:
                return self._note("stopped" if self._course.best_epoch else "failed", "nan", f"NonFiniteLoss: {error}")
            if self._key not in outcome.metrics:
                raise ValueError(
                    f"search.metric: the trainable gives no {self._key!r}, it gives {', '.join(sorted(outcome.metrics))}"
                )
            better = self._course.take(outcome, self._key, self._sign)
            self._course.seconds = before + time.monotonic() - started
            self._save_state()
            if better:
                self._save_best()
            self._note("running")
            if not report(outcome) and not outcome.done:
                return self._note("stopped", SCHEDULER)
        return self._note("finished", self._course.stop_reason)

    def _outcome(self) -> Outcome:
        course = self._course
        return Outcome(course.epoch, course.last, course.done, course.stop_reason)

    def _resume(self) -> None:
        """Load the newest valid checkpoint; one taken over from another trial leaves this trial's own best as it was."""
        from trainables.checkpoint import load_newest

        found = load_newest(self._workspace.checkpoints(self._record.trial_id))
        if found is None:
            return
        _, state = found
        self._model.load_state(state["model"])
        self._course = _Course(**state["course"])
        if state["owner"] != self._record.trial_id:
            own = _left(self._workspace, self._record)
            course = dataclasses.replace(self._course, best_epoch=own.best_epoch, best=dict(own.metrics), seconds=own.seconds)
            self._course = course
        elif self._course.best_epoch == self._course.epoch:
            self._save_best()  # the crash may have come between the checkpoint and these

    def _save_state(self) -> None:
        from trainables.checkpoint import save

        state: dict[str, Any] = {"owner": self._record.trial_id, "course": dataclasses.asdict(self._course)}
        folder = self._workspace.checkpoints(self._record.trial_id)
        save(folder, state | {"model": self._model.state()}, epoch=self._course.epoch)

    def _save_best(self) -> None:
        from trainables.checkpoint import save_weights

        answers = self._model.predict("val")
        self._bank.forget(self._record.trial_id)  # what older weights said of other splits
        self._bank.put(self._record.trial_id, "val", answers)
        pipeline = getattr(self._model, "pipeline", None)
        metadata = {"pipeline": json.dumps(pipeline.to_dict())} if pipeline is not None else None
        save_weights(self._workspace.weights(self._record.trial_id), self._model.weights(), metadata=metadata)

    def _note(self, status: str, stop_reason: str = "", error: str = "") -> MemberRecord:
        """Write the record as things stand."""
        course = self._course
        record = self._record.replace(
            status=status, stop_reason=stop_reason, error=error, epochs_run=course.epoch, best_epoch=course.best_epoch,
            metrics=dict(course.best), seconds=course.seconds, device=str(getattr(self._model, "device", "cpu")),
            peak_memory_mb=peak_memory_mb(),
        )  # fmt: skip
        self._workspace.save_record(record)
        return record


def _left(workspace: Workspace, record: MemberRecord) -> MemberRecord:
    """Return what an earlier attempt of the trial left, else the record given."""
    path = Path(workspace.record(record.trial_id))
    if not path.exists():
        return record
    found = workspace.load_record(record.trial_id)
    return record.replace(
        epochs_run=found.epochs_run,
        best_epoch=found.best_epoch,
        metrics=found.metrics,
        seconds=found.seconds,
        device=found.device,
    )


def _as_before(workspace: Workspace, trial_id: str, config: TrainConfig) -> TrainConfig:
    """Return the config with what it leaves to the device as an earlier attempt had it, so that a trial goes on as it began."""
    if not Path(workspace.record(trial_id)).exists():
        return config
    before = workspace.load_record(trial_id).config
    settled = {key: before[key] for key, left in OPEN.items() if key in before and getattr(config, key) == left}
    return TrainConfig.from_dict(config.to_dict() | settled)  # which reads an older record's values too


def peak_memory_mb() -> float:
    """Return the most memory this process has held: of the GPU where torch uses one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated()) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
