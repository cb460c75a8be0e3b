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
from typing import Any

from orchestrator.search.ending import SCHEDULER
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, TrialSpec, mode_of
from orchestrator.store.workspace import Workspace
from trainables import load_trainable
from trainables.allocator import give_back_freed_memory
from trainables.config import OPEN, TrainConfig, config_hash
from trainables.contract import NonFiniteLoss, Outcome, Trainable
from trainables.data import DataConfig, Splits, load_splits
from trainables.saving import Saving

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
    spec: TrialSpec, *, data: DataConfig, root: str, metric: str, report: Report, build: Build | None = None, at_once: int = 1
) -> MemberRecord:
    """Train `spec` to its end, or until `report` says False, and return its record; it goes on from its newest checkpoint.

    After each epoch: where it is the best so far, weights and validation probabilities; record; checkpoint, where one is due
    among the `at_once` trials of this process or `spec.waits`; report. The newest checkpoint's epoch is reported again first,
    and what came after it is trained and reported again. Whatever goes wrong inside is a failed record with the reason, never
    an exception; a loss that is not finite keeps the best epoch before it.
    """
    give_back_freed_memory()  # here, since the trial before may have been ended from outside, with its tensors still in use
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
        saving = Saving(workspace.checkpoints(spec.trial_id), waits=spec.waits, at_once=at_once)
        return _Trial(record, model, workspace, metric, saving).run(report)
    except Exception as error:
        record = _left(workspace, record)
        text = f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-6:])}"
        record = record.replace(status="failed", stop_reason="", error=text[:8000])
        workspace.save_record(record)
        return record


class _Trial:
    """A trainable on its way, with the files that follow it."""

    def __init__(self, record: MemberRecord, model: Trainable, workspace: Workspace, metric: str, saving: Saving) -> None:
        self._record, self._model, self._workspace, self._saving = record, model, workspace, saving
        self._bank = PredictionBank(workspace)
        self._key, self._sign = f"val/{metric}", 1.0 if mode_of(metric) == "max" else -1.0
        self._course, self._reached = _Course(), 0

    def run(self, report: Report) -> MemberRecord:
        """Train on to the end; see `run_trial`."""
        with self._saving:
            self._resume()
            self._note("running")
            ending = self._train(report)
        return self._note(*ending)

    def _train(self, report: Report) -> tuple[str, str, str]:
        """Train on and return status, stop reason and error."""
        before, started = self._course.seconds, time.monotonic()
        if self._course.epoch and not report(self._outcome()):
            return "stopped", SCHEDULER, ""
        while not self._course.done:
            try:
                outcome = self._model.step()
            except NonFiniteLoss as error:
                return "stopped" if self._course.best_epoch else "failed", "nan", f"NonFiniteLoss: {error}"
            if self._key not in outcome.metrics:
                raise ValueError(
                    f"search.metric: the trainable gives no {self._key!r}, it gives {', '.join(sorted(outcome.metrics))}"
                )
            better = self._course.take(outcome, self._key, self._sign)
            self._course.seconds = before + time.monotonic() - started
            if better:
                self._save_best()
            self._note("running")
            self._saving.offer(outcome, self._state)
            if not report(outcome) and not outcome.done:
                return "stopped", SCHEDULER, ""
        return "finished", self._course.stop_reason, ""

    def _outcome(self) -> Outcome:
        course = self._course
        return Outcome(course.epoch, course.last, course.done, course.stop_reason)

    def _resume(self) -> None:
        """Load the newest valid checkpoint; the best epoch, the epochs run and the seconds are those of the record.

        The record is of the checkpoint's epoch or a later one: each epoch is recorded first. So the best stays what its files
        are of, whether it came after the checkpoint or the checkpoint was taken over from another trial. (Older versions wrote
        the checkpoint first: where that is ahead, it is right.)
        """
        trial_id, workspace = self._record.trial_id, self._workspace
        earlier, state = _earlier(workspace, trial_id), self._saving.load()
        if state is not None:
            self._model.load_state(state["model"])
            self._course = _Course(**state["course"])
        elif earlier is None or earlier.config_hash != self._record.config_hash:
            return
        course = self._course
        if state is not None and state["owner"] == trial_id and (earlier is None or earlier.epochs_run < course.epoch):
            if course.best_epoch == course.epoch:
                self._save_best()
        elif earlier is not None:
            course.best_epoch, course.best = earlier.best_epoch, dict(earlier.metrics)
            course.seconds, self._reached = earlier.seconds, earlier.epochs_run
        if workspace.torn(trial_id).exists() or not workspace.weights(trial_id).exists():
            course.best_epoch, course.best = 0, {}  # what is whole is the checkpoint: its epoch, or the next one, is the best
            if state is not None and state["owner"] == trial_id and course.take(self._outcome(), self._key, self._sign):
                self._save_best()

    def _state(self) -> dict[str, Any]:
        """Return what a checkpoint holds, in memory of its own."""
        return {
            "owner": self._record.trial_id, "course": dataclasses.asdict(self._course), "model": self._model.state(),
        }  # fmt: skip

    def _save_best(self) -> None:
        """Replace the best epoch's files; they are torn until the record (`_note`) is of the same epoch."""
        from trainables.checkpoint import save_weights

        answers = self._model.predict("val")
        self._workspace.torn(self._record.trial_id).touch()
        self._bank.forget(self._record.trial_id)  # what older weights said of other splits
        self._bank.put(self._record.trial_id, "val", answers)
        pipeline = getattr(self._model, "pipeline", None)
        metadata = {"pipeline": json.dumps(pipeline.to_dict())} if pipeline is not None else None
        save_weights(self._workspace.weights(self._record.trial_id), self._model.weights(), metadata=metadata)

    def _note(self, status: str, stop_reason: str = "", error: str = "") -> MemberRecord:
        """Write the record as things stand."""
        course = self._course
        record = self._record.replace(
            status=status, stop_reason=stop_reason, error=error, epochs_run=max(course.epoch, self._reached),
            best_epoch=course.best_epoch, metrics=dict(course.best), seconds=course.seconds,
            device=str(getattr(self._model, "device", "cpu")), peak_memory_mb=peak_memory_mb(),
        )  # fmt: skip
        self._workspace.save_record(record)
        self._workspace.torn(record.trial_id).unlink(missing_ok=True)
        return record


def _earlier(workspace: Workspace, trial_id: str) -> MemberRecord | None:
    """Return the record that an earlier attempt of a trial left, if one did."""
    return workspace.load_record(trial_id) if workspace.record(trial_id).exists() else None


def _left(workspace: Workspace, record: MemberRecord) -> MemberRecord:
    """Return the record with what the trial has come to, if it has begun."""
    found = _earlier(workspace, record.trial_id)
    if found is None:
        return record
    return record.replace(
        epochs_run=found.epochs_run,
        best_epoch=found.best_epoch,
        metrics=found.metrics,
        seconds=found.seconds,
        device=found.device,
    )


def _as_before(workspace: Workspace, trial_id: str, config: TrainConfig) -> TrainConfig:
    """Return the config with what it leaves to the device as an earlier attempt had it, so that a trial goes on as it began."""
    earlier = _earlier(workspace, trial_id)
    before = earlier.config if earlier is not None else {}
    settled = {key: before[key] for key, left in OPEN.items() if key in before and getattr(config, key) == left}
    return TrainConfig.from_dict(config.to_dict() | settled)  # which reads an older record's values too


def peak_memory_mb() -> float:
    """Return the most memory this process has held: of the GPU where torch uses one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated()) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
