"""How the trials of one key train: packed or one after another, by a correctness probe first and a short timing second."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from trainables.image_model import ImageModel
from trainables.slots.layers import NotPackable
from trainables.slots.pack import pack, spread_images
from trainables.slots.pool import Packed, Tick, serial, trains_alone
from trainables.slots.probe import Verdict, probe

TIMED_STEPS, TIMED_SLOTS = 20, 4
"""Steps and slots of the timing: forward and backward on random images, interleaved, the medians compared."""
_VERDICTS: dict[tuple[object, ...], Verdict] = {}


def choose_tick(model: ImageModel) -> tuple[Tick, str]:
    """Return (tick, reason) for the pool of a model: packed where that is right and not slower, else serial."""
    reason = trains_alone(model)
    if not reason:
        verdict = _verdict(model)
        reason = "" if verdict.packs else verdict.reason
    if not reason:
        gain = packing_gain(model.model, _batch(model))
        if gain >= 1.0:
            return Packed(), f"packed ({gain:.2f}x of one after another)"
        reason = f"packing would be slower ({gain:.2f}x)"
    return serial, f"one after another: {reason}"


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


def packing_gain(model: nn.Module, images: torch.Tensor) -> float:
    """Return the time of `TIMED_SLOTS` models one after another over their time as one array (above 1: packing pays)."""
    solos = [copy.deepcopy(model).train() for _ in range(TIMED_SLOTS)]
    try:
        packed = pack(solos)
    except NotPackable:
        return 0.0
    together = spread_images(torch.stack([images] * TIMED_SLOTS))

    def alone() -> None:
        for solo in solos:
            solo(images).sum().backward()

    def as_one() -> None:
        packed(together).sum().backward()

    times: dict[str, list[float]] = {"alone": [], "as_one": []}
    for step in range(TIMED_STEPS // 2 + 2):
        for name, run in (("alone", alone), ("as_one", as_one)):
            started = _now(images.device)
            run()
            if step >= 2:  # the first two warm caches up
                times[name].append(_now(images.device) - started)
    medians = {name: sorted(found)[len(found) // 2] for name, found in times.items()}
    return medians["alone"] / medians["as_one"]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
