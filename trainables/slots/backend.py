"""How the trials of one key train: as one (packed, else by vmap) or one after another, by a probe first and a timing second."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass

import torch

from trainables.config import fusion_key
from trainables.image_model import ImageModel
from trainables.slots.pack import pack
from trainables.slots.pool import Packed, Pool, SlotPool, Turns, out_of_memory, trains_alone
from trainables.slots.probe import Build, Verdict, probe
from trainables.slots.stacked import autocast_misses, stack
from trainables.slots.timing import bucket, device_name, packing_gain, remembered_gain

_LOG = logging.getLogger(__name__)
FIRST = 4
"""Slots of the timing that decides whether trials of a key wait for each other at all."""
_VERDICTS: dict[tuple[object, ...], Verdict] = {}


@dataclass(frozen=True)
class Way:
    """One way to make K models one: how, and what it and its use are called."""

    build: Build
    said: str
    noun: str


PACKED = Way(pack, "packed", "packing")
VMAP = Way(stack, "by vmap", "vmap")
"""Slower than packing wherever both are right (measured), so it is tried where packing is wrong."""


def choose_pool(model: ImageModel) -> tuple[Pool, str]:
    """Return (pool, reason) for the trials of a model's key: as one where that is right, fits and pays, else in turns."""
    try:
        return _choose(model)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return Turns(), "one after another: memory does not suffice to try packing"


def _choose(model: ImageModel) -> tuple[Pool, str]:
    way, reason = _way(model)
    if way is None:
        return Turns(), f"one after another: {reason}"
    gains = Gains(model, way)
    because = f"; not packed: {reason}" if reason else ""
    if gains.pays(FIRST):
        return SlotPool(Packed(gains.pays, build=way.build)), f"{way.said}, {gains.said[FIRST]}{because}"
    return Turns(), f"one after another: {way.noun} does not pay, {gains.said[FIRST]}{because}"


def _way(model: ImageModel) -> tuple[Way | None, str]:
    """Return the way that is right for a model (None: none is), and why the ones before it are not."""
    reason = trains_alone(model)
    if reason:
        return None, reason
    packs = _verdict(model, PACKED)
    if packs.packs:
        return PACKED, ""
    if autocast_misses(model.config.precision, model.device):
        stacks = Verdict(False, f"{model.config.precision} does not reach a convolution under vmap on this device")
    else:
        stacks = _verdict(model, VMAP)
    return (VMAP, packs.reason) if stacks.packs else (None, f"not packed: {packs.reason}; not by vmap: {stacks.reason}")


class Gains:
    """The measured gain of training models like one of a key as one, by bucket of slots; `said` keeps each as words."""

    def __init__(self, model: ImageModel, way: Way = PACKED) -> None:
        self._model, self._pays = copy.deepcopy(model.model), {1: False}  # the model itself is about to train
        self._images, self._way = _batch(model), way
        self._words = (*fusion_key(model.config), model.pipeline.image_size, model.splits.outputs, way.noun)
        self.said: dict[int, str] = {}

    def pays(self, slots: int) -> bool:
        """Return whether so many slots train faster as one array than one after another, and fit the memory beside the rest."""
        size = bucket(slots)
        if size not in self._pays:
            try:
                gain, self.said[size] = self._gain(size)
            except RuntimeError as error:  # not remembered on the disk: another process may have more room
                if not out_of_memory(error):
                    raise
                gain, self.said[size] = 0.0, f"{size} slots do not fit the memory"
            self._pays[size] = gain >= 1.0
            _LOG.info("%d slots: %s", size, self.said[size])
        return self._pays[size]

    def _gain(self, size: int) -> tuple[float, str]:
        words = (*self._words, tuple(self._images.shape), size, device_name(self._images.device))
        gain, known = remembered_gain(words, lambda: packing_gain(self._model, self._images, slots=size, build=self._way.build))
        return gain, f"{gain:.2f}x with {size} slots ({'measured before' if known else 'measured now'})"


def _verdict(model: ImageModel, way: Way) -> Verdict:
    """Probe an architecture once a process, on small images where it takes any size."""
    config = model.config
    key = (config.model, config.width, config.depth, config.norm, model.pipeline.image_size, way)
    if key not in _VERDICTS:
        _VERDICTS[key] = probe(model.model, image_shape=tuple(_batch(model).shape[1:]), build=way.build)  # type: ignore[arg-type]
    return _VERDICTS[key]


def _batch(model: ImageModel) -> torch.Tensor:
    """Return random images of a training batch's shape, dtype and device."""
    like = next(model.model.parameters())
    size, channels = model.pipeline.image_size, len(model.pipeline.mean)
    return torch.randn(model.config.batch_size, channels, size, size, device=like.device, dtype=like.dtype)
