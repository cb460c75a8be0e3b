"""Models that train one after another: each by its own step, or each as an array of one whose step is a replayed graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from trainables.allocator import out_of_memory
from trainables.contract import NonFiniteLoss
from trainables.image_model import ImageModel
from trainables.slots.array import Ending, SlotArray
from trainables.slots.layers import NotPackable

_LOG = logging.getLogger(__name__)


class Alone(Protocol):
    """A way to train models one after another."""

    def __call__(self, models: Sequence[ImageModel]) -> list[Ending]:
        """Train one epoch of each."""

    def keep(self, models: Sequence[ImageModel]) -> None:
        """Forget what is held for any model but these."""


def serial(models: Sequence[ImageModel]) -> list[Ending]:
    """Train each model's epoch one after another."""
    return [_epoch(model) for model in models]


def _epoch(model: ImageModel) -> Ending:
    try:
        return model.step()
    except NonFiniteLoss as error:
        return error


class Serially:
    """Each model's own step; holds nothing."""

    def __call__(self, models: Sequence[ImageModel]) -> list[Ending]:
        """Train one epoch of each."""
        return serial(models)

    def keep(self, models: Sequence[ImageModel]) -> None:
        """Have nothing to forget."""


class Lone:
    """Each model as an array of one, kept from epoch to epoch together with its graphs."""

    def __init__(self, make: Callable[[list[ImageModel]], SlotArray]) -> None:
        """Take what makes an array of models."""
        self._make = make
        self._arrays: dict[ImageModel, SlotArray | None] = {}
        """None: a model whose layers allow no array."""

    def __call__(self, models: Sequence[ImageModel]) -> list[Ending]:
        """Train one epoch of each."""
        return [self._epoch(model) for model in models]

    def keep(self, models: Sequence[ImageModel]) -> None:
        """Forget the arrays of any model but these; their tensors are then the models' own."""
        for model in set(self._arrays).difference(models):
            self._arrays.pop(model, None)

    def _made(self, model: ImageModel) -> SlotArray | None:
        try:
            return self._make([model])
        except (NotPackable, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not out_of_memory(error):
                raise
            _LOG.warning("a model trains by its own steps: %s", error)
            return None

    def _epoch(self, model: ImageModel) -> Ending:
        if model not in self._arrays:
            self._arrays[model] = self._made(model)
        array = self._arrays[model]
        return _epoch(model) if array is None else array.epoch()[0]
