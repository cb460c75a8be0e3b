"""Whether packing and replaying pay, by a short timing of steps, remembered on the disk for the next process."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from trainables.data.cache import cache_folder
from trainables.slots.graphs import Capture, GraphedStep, Step
from trainables.slots.layers import NotPackable
from trainables.slots.pack import pack, spread_images
from trainables.slots.probe import Build

STEPS, WARM, SECONDS = 10, 2, 3.0
"""Timed steps of each way (interleaved, medians compared), steps before them, and the time after which fewer must do (where
one round takes longer than that, the first is all)."""
LARGEST = 64
"""Slots of the largest bucket."""


def bucket(slots: int) -> int:
    """Return the power of two at or below a number of slots, for which the timing is made.

    >>> [bucket(slots) for slots in (2, 3, 8, 100)]
    [2, 2, 8, 64]
    """
    return int(min(LARGEST, 1 << (max(slots, 1).bit_length() - 1)))


def device_name(device: torch.device) -> str:
    """Return what a timing on a device depends on: its name, and on a CPU torch's threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def remembered_gain(words: tuple[object, ...], measure: Callable[[], float]) -> tuple[float, bool]:
    """Return (gain, whether it was known): of an earlier process where all `words` agree, else measured and kept.

    A cache that cannot be read or written costs the time of measuring again, nothing else.
    """
    text = json.dumps([torch.__version__, *words], default=str)
    path = cache_folder("") / "slots" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text())["gain"]), True
    gain = measure()
    if not gain:
        return gain, False  # it could not be done this time: nothing to remember
    with contextlib.suppress(OSError):
        _write(path, json.dumps({"gain": gain, "of": json.loads(text)}))
    return gain, False


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def packing_gain(model: nn.Module, images: torch.Tensor, *, slots: int, build: Build = pack) -> float:
    """Return the time of `slots` models one after another over their time as one array (above 1: the array pays)."""
    solos = [copy.deepcopy(model).train() for _ in range(slots)]
    try:
        packed = build(solos)
    except NotPackable:
        return 0.0
    together = spread_images(torch.stack([images] * slots))

    def alone() -> None:
        for solo in solos:
            solo(images).sum().backward()

    def as_one() -> None:
        packed(together).sum().backward()

    return ratio(alone, as_one, images.device)


def graph_gain(
    step: Step, inputs: Sequence[torch.Tensor], *, capture: Capture, ordinary: Callable[[], object] | None = None
) -> float:
    """Return the time of a step over that of its replay (above 1: replaying pays; 0: it cannot be recorded).

    `ordinary` is what the replay would stand for, where that is not the step itself.
    """
    graphed = GraphedStep(step, capture=capture)
    graphed(*inputs)
    if graphed.refused:
        return 0.0
    return ratio(ordinary or (lambda: step(*inputs)), lambda: graphed(*inputs), inputs[0].device)


def ratio(first: Callable[[], object], second: Callable[[], object], device: torch.device) -> float:
    """Return the median time of one way over the other's, interleaved on the device."""
    times: list[list[float]] = [[], []]
    begun = time.perf_counter()
    for step in range(STEPS + WARM):
        for run, found in zip((first, second), times, strict=True):
            started = _now(device)
            run()
            found.append(_now(device) - started)
        if time.perf_counter() - begun > SECONDS and step != WARM:
            break
    kept = [sorted(found[WARM:] or found[-1:]) for found in times]
    return kept[0][len(kept[0]) // 2] / kept[1][len(kept[1]) // 2]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
