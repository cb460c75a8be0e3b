"""The slot engine: one long-lived process a device, where each trial is a thread and trials of one shape train as one array.

It knows no Ray: a backend starts trials in it, asks each for its next epoch, and says when one is to end. Asking is the
permission to go on, so that an epoch nobody wants is never trained.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from queue import Queue
from typing import TYPE_CHECKING, Any

from orchestrator.search.ledger import spec_from

if TYPE_CHECKING:
    from orchestrator.store.records import TrialSpec
    from trainables.contract import Outcome
    from trainables.slots.slot_model import SlotModel

OVER = ""
"""Told in place of an epoch when a trial has come to its end; its record is on the disk then."""


class _Over(BaseException):
    """Leaves a trial between two epochs; its record is then the conductor's affair."""


class _Slot:
    """A trial in the engine: what it tells, and what it is told."""

    def __init__(self) -> None:
        self.told: Queue[str] = Queue()
        self.verdicts: Queue[bool] = Queue()
        self.asked, self.ending = False, False
        self.models: list[SlotModel] = []
        self.thread: threading.Thread | None = None

    def report(self, outcome: Outcome) -> bool:
        """Tell of an epoch and wait for the word to go on; after the last one there is nothing to wait for."""
        self.told.put(json.dumps({"epoch": outcome.epoch, "metrics": outcome.metrics, "done": outcome.done}))
        if not outcome.done and not self.verdicts.get():
            raise _Over
        return True

    def take(self, model: SlotModel) -> SlotModel:
        """Keep a model that was just built, unless the trial is to end meanwhile."""
        self.models.append(model)
        if self.ending:
            raise _Over
        return model

    def end(self) -> None:
        """End the trial: before its next epoch, or at once where it only waits for others."""
        self.ending = True
        self.verdicts.put(False)
        for model in self.models:
            model.close()


class SlotEngine:
    """Trains up to `slots` trials at once, each begun with `start`, driven by `next`, and left to its end or to `stop`."""

    def __init__(self, job: Mapping[str, Any], *, slots: int, threads: int) -> None:
        """Load torch, the models and the data, once for all trials to come; `job` has "data", "root" and "metric"."""
        from trainables.allocator import collector_at_rest, keep_freed_memory

        with collector_at_rest():
            import torch

            from orchestrator.search.trial import splits_of
            from trainables.data import DataConfig
            from trainables.slots import slot_model  # noqa: F401  # not first in the trials' threads, all at once

        keep_freed_memory()
        torch.set_num_threads(threads)
        self._data, self._root, self._metric = DataConfig(**job["data"]), str(job["root"]), str(job["metric"])
        splits_of(self._data)
        self._at_once, self._slots = slots, dict[str, _Slot]()
        self._changed = threading.Lock()
        self._clock = _Occupancy(slots)

    def start(self, spec: Mapping[str, Any]) -> None:
        """Begin a trial, or go on with it from its newest checkpoint; an earlier attempt of it is ended first."""
        wanted = spec_from(spec)
        self.stop(wanted.trial_id)
        slot = _Slot()
        slot.thread = threading.Thread(target=self._train, args=(wanted, slot), name=wanted.trial_id, daemon=True)
        with self._changed:
            self._slots[wanted.trial_id] = slot
            self._clock.add(1)
        slot.thread.start()

    def next(self, trial_id: str) -> str:
        """Let a trial go on from what it told last, and return the next epoch it tells of (JSON), or OVER.

        Raises LookupError for a trial that is not here: this engine is new, and the trial goes on by `start`.
        """
        with self._changed:
            slot = self._slots.get(trial_id)
        if slot is None:
            raise LookupError(f"{trial_id} is not in this engine")
        if slot.asked:
            slot.verdicts.put(True)
        slot.asked = True
        told = slot.told.get()
        if told == OVER:
            self._forget(trial_id, slot)
        return told

    def stop(self, trial_id: str) -> None:
        """End a trial, and return when it has left: after the epoch that is being trained, at once for one not here."""
        with self._changed:
            slot = self._slots.get(trial_id)
        if slot is None or slot.thread is None:
            return
        slot.end()
        slot.thread.join()
        self._forget(trial_id, slot)

    def _forget(self, trial_id: str, slot: _Slot) -> None:
        with self._changed:
            if self._slots.get(trial_id) is slot:
                del self._slots[trial_id]

    def summary(self) -> dict[str, Any]:
        """Return how full the slots were, how busy the device was, and why each pool trained as it did."""
        from trainables.slots.slot_model import pools

        with self._changed:
            return {**self._clock.read(), "pools": pools()}

    def _train(self, spec: TrialSpec, slot: _Slot) -> None:
        try:
            self._run(spec, slot)
        finally:
            for model in slot.models:
                model.close()
            with self._changed:
                self._clock.add(-1)
            slot.told.put(OVER)

    def _run(self, spec: TrialSpec, slot: _Slot) -> None:
        from orchestrator.search.trial import run_trial
        from trainables.slots.pool import Left
        from trainables.slots.slot_model import SlotModel

        def build(config: Any, splits: Any) -> SlotModel:
            return slot.take(SlotModel(config, splits))

        with contextlib.suppress(_Over, Left):
            run_trial(
                spec, data=self._data, root=self._root, metric=self._metric, report=slot.report,
                build=build if spec.trainable == "image" else None, at_once=self._at_once,
            )  # fmt: skip


class _Occupancy:
    """Counts, from the first trial's start to the last one's end, the slots that hold a trial."""

    def __init__(self, slots: int) -> None:
        self._slots, self._now, self._since = slots, 0, 0.0
        self._seconds, self._held = 0.0, 0.0

    def add(self, trials: int) -> None:
        """Note that a trial came (1) or left (-1)."""
        now = time.monotonic()
        if self._now:
            self._seconds += now - self._since
            self._held += (now - self._since) * min(self._now, self._slots)
        self._now, self._since = self._now + trials, now

    def read(self) -> dict[str, float]:
        """Return the slots, the seconds with a trial in any of them, and the sum over slots of the seconds held."""
        return {"slots": self._slots, "seconds": self._seconds, "held_seconds": self._held}
