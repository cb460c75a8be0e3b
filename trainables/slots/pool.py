"""Continuous batching of trials: each trial's thread asks for its next epoch, and all that share a key train it together.

An epoch (a tick) starts when every member of the pool waits for one. A trial that stops between two ticks leaves, one that
starts joins at the next; nobody waits for a slower architecture, since that has another key and another pool.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from trainables.allocator import out_of_memory
from trainables.config import fusion_key
from trainables.contract import NonFiniteLoss, Outcome
from trainables.image_model import ImageModel
from trainables.slots.alone import Alone, Serially
from trainables.slots.array import Ending, SlotArray
from trainables.slots.layers import NotPackable

_LOG = logging.getLogger(__name__)
Tick = Callable[[list[ImageModel]], list[Ending]]
Make = Callable[[list[ImageModel]], SlotArray]
DEVICE = threading.RLock()
"""Held by whoever computes in this process: a tick, a model being built, a probe. One device serves one at a time, and
torch's one global generator, from which weights are drawn, is seeded by each for itself."""


class Left(BaseException):
    """Raised in the thread of a model that somebody else took out of its pool: nothing more is to come of it."""


class Pool(Protocol):
    """Where the trials of one key train; `seconds` is the time spent in ticks."""

    ticks: int
    slot_epochs: int
    seconds: float

    def join(self, model: ImageModel) -> None:
        """Become a member."""

    def leave(self, model: ImageModel) -> None:
        """Stop being a member."""

    def step(self, model: ImageModel) -> Outcome:
        """Train one epoch of this model; raises NonFiniteLoss."""


def pool_key(model: ImageModel) -> tuple[Any, ...]:
    """Return what trials must share to step together: the fusion key, data, steps of an epoch, device, and why if alone."""
    return (
        *fusion_key(model.config),
        model.splits.fingerprint,
        len(model.portion.rows),
        str(model.device),
        trains_alone(model),
    )


def trains_alone(model: ImageModel) -> str:
    """Return why a trial cannot be packed ("" when nothing is against it): what would couple slots or change the graph."""
    config = model.config
    if config.precision == "fp16":
        return "fp16: one loss scaler would couple the slots"
    if config.compile == "on":
        return "compile: the graph is compiled for one model"
    if config.gradual_epochs:
        return "gradual unfreezing: slots at other epochs have other stages frozen"
    if model.features:
        return "cached features: the frozen part is not computed at all"
    return ""


class Turns:
    """The pool of what cannot be packed, or would be slower: each trains when its thread asks, nobody waits for the others."""

    def __init__(self, alone: Alone | None = None) -> None:
        """Take how one trains when it is its turn (None: by its own step)."""
        self._members: list[ImageModel] = []
        self._alone = alone or Serially()
        self.ticks, self.slot_epochs, self.seconds = 0, 0, 0.0

    def join(self, model: ImageModel) -> None:
        """Become a member."""
        self._members.append(model)

    def leave(self, model: ImageModel) -> None:
        """Stop being a member."""
        with DEVICE:
            self._members.remove(model)
            self._alone.keep(self._members)

    def step(self, model: ImageModel) -> Outcome:
        """Train one epoch of this model when the device is free; raises NonFiniteLoss."""
        with DEVICE:
            if model not in self._members:
                raise Left
            started = time.monotonic()
            try:
                [ending] = self._alone([model])
            finally:
                self.ticks, self.slot_epochs = self.ticks + 1, self.slot_epochs + 1
                self.seconds += time.monotonic() - started
        if isinstance(ending, NonFiniteLoss):
            raise ending
        return ending


def always(slots: int) -> bool:  # noqa: ARG001
    """Pack any number of slots."""
    return True


class Packed:
    """Trains models as one array, built anew only when the members change; where `pays(K)` says no, one after another."""

    def __init__(self, pays: Callable[[int], bool] = always, *, make: Make | None = None, alone: Alone | None = None) -> None:
        """Take how many slots pay, what makes an array of models, and how they train one after another."""
        self._pays, self._make, self._alone = pays, make, alone or Serially()
        self._array: SlotArray | None = None
        self._together = True

    def __call__(self, models: list[ImageModel]) -> list[Ending]:
        """Train one epoch of every model.

        Only here, where all of them wait, may tensors move: a model that has left keeps its slice of the old array. Once an
        array does not fit the memory they train one after another: at once where it could not be built, else after its trials
        have failed, since what they were in the middle of is lost.
        """
        if len(models) == 1 or not self._pays(len(models)):
            if self._together:
                alone = len(models) == 1
                _LOG.info("one trial of its key: it trains alone" if alone else "one array of so many does not pay: in turns")
            self._together = False
            self._dissolve(models)
            return self._serial(models)
        self._together = True
        if self._array is None or self._array.models != models:
            self._dissolve(models)
            self._alone.keep([])
            try:
                self._array = (self._make or SlotArray)(models)
            except (RuntimeError, NotPackable) as error:
                self._give_up(error, len(models))
                return self._serial(models)
        try:
            return self._array.epoch()
        except RuntimeError as error:
            self._give_up(error, len(models))
            raise

    def _serial(self, models: list[ImageModel]) -> list[Ending]:
        self._alone.keep(models)
        return self._alone(models)

    def _give_up(self, error: RuntimeError | NotPackable, slots: int) -> None:
        """Pack no more where memory did not suffice or a member's layers do not allow it; raises any other error again."""
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise error
        self._pays, self._together = _never, False
        said = str(error) if isinstance(error, NotPackable) else f"{slots} slots as one array do not fit the memory"
        _LOG.warning("%s: one after another from now on", said)

    def forget(self) -> None:
        """Hold nothing for models that have all left: they keep their slices, the array's graphs and workspace go."""
        self._array = None
        self._alone.keep([])

    def _dissolve(self, models: list[ImageModel]) -> None:
        if self._array is not None:
            self._array.release([model for model in self._array.models if model in models])
            self._array = None


def _never(slots: int) -> bool:  # noqa: ARG001
    return False


class SlotPool:
    """The meeting point of the threads of one key; `tick` trains one epoch of the models it is given.

    `emptied` is called when the last member has left.
    """

    def __init__(self, tick: Tick, *, emptied: Callable[[], None] = lambda: None) -> None:
        self._tick, self._emptied = tick, emptied
        self._changed = threading.Condition()
        self._members: list[ImageModel] = []
        self._waiting: list[ImageModel] = []
        self._endings: dict[int, Outcome | BaseException] = {}
        self._ticking: list[ImageModel] = []
        self.ticks, self.slot_epochs, self.seconds = 0, 0, 0.0

    def join(self, model: ImageModel) -> None:
        """Become a member: from now on a tick waits for this model."""
        with self._changed:
            self._members.append(model)

    def leave(self, model: ImageModel) -> None:
        """Stop being a member: the others no longer wait for it, and it no longer waits for them."""
        with self._changed:
            self._members.remove(model)
            if model in self._waiting and model not in self._ticking:
                self._waiting.remove(model)
                self._endings[id(model)] = Left()
            self._changed.notify_all()
        if not self._members:
            with DEVICE:
                if not self._members:
                    self._emptied()

    def step(self, model: ImageModel) -> Outcome:
        """Wait for the other members, train one epoch with them, and return this model's outcome; raises NonFiniteLoss."""
        with self._changed:
            if model not in self._members:
                raise Left
            self._waiting.append(model)
            self._changed.notify_all()
            while id(model) not in self._endings:
                if not self._ticking and len(self._waiting) == len(self._members):
                    self._run()
                else:
                    self._changed.wait()
            ending = self._endings.pop(id(model))
        if isinstance(ending, BaseException):
            raise ending
        return ending

    def _run(self) -> None:
        """Run one tick in this thread, without the lock while it computes."""
        models = self._ticking = sorted(self._waiting, key=self._members.index)
        self._changed.release()
        endings: list[Outcome | BaseException]
        try:
            with DEVICE:
                started = time.monotonic()
                endings = [*self._tick(models)]
                self.seconds += time.monotonic() - started
        except Exception as error:  # every member's trial fails with the reason, and goes on from its last checkpoint
            endings = [error] * len(models)
        finally:
            self._changed.acquire()
        self._endings.update({id(model): ending for model, ending in zip(models, endings, strict=True)})
        self._waiting, self._ticking = [model for model in self._waiting if model not in models], []
        self.ticks, self.slot_epochs = self.ticks + 1, self.slot_epochs + len(models)
        self._changed.notify_all()
