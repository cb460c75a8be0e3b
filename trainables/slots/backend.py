"""How the trials of one key train: as one (packed, else by vmap) or one after another, by a probe first and a timing second."""

from __future__ import annotations

from trainables.allocator import out_of_memory
from trainables.image_model import ImageModel
from trainables.slots.gains import PACKED, VMAP, Gains, Way, random_batch
from trainables.slots.graphs import capture_cuda
from trainables.slots.pool import Packed, Pool, SlotPool, Turns, trains_alone
from trainables.slots.probe import Verdict, probe
from trainables.slots.stacked import autocast_misses

FIRST = 4
"""Slots of the timing that decides whether trials of a key wait for each other at all."""
VMAP_VALUES, VMAP_PARAMETERS = 1_000_000, 10_000_000
"""Values of a batch and parameters of a net beyond which vmap is not tried: slower where measured, and long to probe."""
_VERDICTS: dict[tuple[object, ...], Verdict] = {}


def choose_pool(model: ImageModel) -> tuple[Pool, str]:
    """Return (pool, reason) for the trials of a model's key: as one where that is right, fits and pays, else in turns.

    On a GPU the steps of both are replayed as CUDA graphs where these compute the same and are faster.
    """
    try:
        return _choose(model)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return Turns(), "one after another: memory does not suffice to try packing"


def _choose(model: ImageModel) -> tuple[Pool, str]:
    reason = trains_alone(model)
    if reason:
        return Turns(), f"one after another: {reason}"
    way, reason = _way(model)
    if way is None:
        return Turns(), f"one after another: {reason}"
    gains = Gains(model, way, capture=capture_cuda if model.device.type == "cuda" else None)
    alone, replayed = gains.alone()
    because = f"; not packed: {reason}" if reason else ""
    if gains.pays(FIRST):
        packed = Packed(gains.pays, make=gains.array, alone=alone)
        return SlotPool(packed, emptied=packed.forget), f"{way.said}, {gains.said[FIRST]}{because}"
    return Turns(alone), f"one after another{replayed}: {way.noun} does not pay, {gains.said[FIRST]}{because}"


def _way(model: ImageModel) -> tuple[Way | None, str]:
    """Return the way that is right for a model (None: none is), and why the ones before it are not."""
    packs = _verdict(model, PACKED)
    if packs.packs:
        return PACKED, ""
    precision = model.config.precision
    if too_large_for_vmap(model):
        return None, f"not packed: {packs.reason}; too large for vmap to pay"
    if autocast_misses(precision, model.device):
        stacks = Verdict(False, f"{precision} does not reach a convolution under vmap on this device")
    else:
        stacks = _verdict(model, VMAP)
    return (VMAP, packs.reason) if stacks.packs else (None, f"not packed: {packs.reason}; not by vmap: {stacks.reason}")


def too_large_for_vmap(model: ImageModel) -> bool:
    """Return whether probing vmap would cost much to find that it does not pay: it gains where steps are bound by overhead."""
    size, channels = model.pipeline.image_size, len(model.pipeline.mean)
    values = model.config.batch_size * channels * size * size
    return values > VMAP_VALUES or sum(p.numel() for p in model.model.parameters()) > VMAP_PARAMETERS


def _verdict(model: ImageModel, way: Way) -> Verdict:
    """Probe an architecture once a process, on small images where it takes any size."""
    config = model.config
    key = (config.model, config.width, config.depth, config.norm, model.pipeline.image_size, way)
    if key not in _VERDICTS:
        shape = tuple(random_batch(model).shape[1:])
        _VERDICTS[key] = probe(model.model, image_shape=shape, build=way.build)  # type: ignore[arg-type]
    return _VERDICTS[key]
