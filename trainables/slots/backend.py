"""How the trials of one key train: packed or one after another, by a correctness probe first and a short timing second."""

from __future__ import annotations

import copy
import logging

import torch

from trainables.config import fusion_key
from trainables.image_model import ImageModel
from trainables.slots.pool import Packed, Pool, SlotPool, Turns, out_of_memory, trains_alone
from trainables.slots.probe import Verdict, probe
from trainables.slots.timing import bucket, device_name, packing_gain, remembered_gain

_LOG = logging.getLogger(__name__)
FIRST = 4
"""Slots of the timing that decides whether trials of a key wait for each other at all."""
_VERDICTS: dict[tuple[object, ...], Verdict] = {}


def choose_pool(model: ImageModel) -> tuple[Pool, str]:
    """Return (pool, reason) for the trials of a model's key: packed where that is right, fits and pays, else in turns."""
    try:
        return _choose(model)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return Turns(), "one after another: memory does not suffice to try packing"


def _choose(model: ImageModel) -> tuple[Pool, str]:
    reason = trains_alone(model)
    if not reason:
        verdict = _verdict(model)
        reason = "" if verdict.packs else verdict.reason
    if reason:
        return Turns(), f"one after another: {reason}"
    gains = Gains(model)
    if gains.pays(FIRST):
        return SlotPool(Packed(gains.pays)), f"packed, {gains.said[FIRST]}"
    return Turns(), f"one after another: packing does not pay, {gains.said[FIRST]}"


class Gains:
    """The measured gain of packing models like one of a key, by bucket of slots; `said` keeps each as words."""

    def __init__(self, model: ImageModel) -> None:
        self._model, self._pays = copy.deepcopy(model.model), {1: False}  # the model itself is about to train
        self._images, self._words = _batch(model), (*fusion_key(model.config), model.pipeline.image_size, model.splits.outputs)
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
        gain, known = remembered_gain(words, lambda: packing_gain(self._model, self._images, slots=size))
        return gain, f"{gain:.2f}x with {size} slots ({'measured before' if known else 'measured now'})"


def _verdict(model: ImageModel) -> Verdict:
    """Probe an architecture once a process, on small images where it takes any size."""
    key = (model.config.model, model.config.width, model.config.depth, model.config.norm, model.pipeline.image_size)
    if key not in _VERDICTS:
        _VERDICTS[key] = probe(model.model, image_shape=tuple(_batch(model).shape[1:]))  # type: ignore[arg-type]
    return _VERDICTS[key]


def _batch(model: ImageModel) -> torch.Tensor:
    """Return random images of a training batch's shape, dtype and device."""
    like = next(model.model.parameters())
    size, channels = model.pipeline.image_size, len(model.pipeline.mean)
    return torch.randn(model.config.batch_size, channels, size, size, device=like.device, dtype=like.dtype)
