"""Whether packing and replaying pay, by a short timing of steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from trainables.loop import forward
from trainables.runtime import memory_format_of
from trainables.slots.graphs import Capture, GraphedStep, Step
from trainables.slots.layers import NotPackable
from trainables.slots.pack import pack, spread_images
from trainables.slots.probe import Build
from trainables.timing import ratio

LARGEST = 64
"""Slots of the largest bucket."""


def bucket(slots: int) -> int:
    """Return the power of two at or below a number of slots, for which the timing is made.

    >>> [bucket(slots) for slots in (2, 3, 8, 100)]
    [2, 2, 8, 64]
    """
    return int(min(LARGEST, 1 << (max(slots, 1).bit_length() - 1)))


def packing_gain(model: nn.Module, images: torch.Tensor, *, slots: int, build: Build = pack, precision: str = "fp32") -> float:
    """Return the time of `slots` models one after another over their time as one array (above 1: the array pays).

    Images and model are in the memory format in which they train.
    """
    solos = [copy.deepcopy(model).train() for _ in range(slots)]
    try:
        packed = build(solos)
    except NotPackable:
        return 0.0
    together = spread_images(torch.stack([images] * slots), memory_format_of(images))

    def alone() -> None:
        for solo in solos:
            forward(solo, images, precision).sum().backward()  # type: ignore[no-untyped-call]

    def as_one() -> None:
        forward(packed, together, precision).sum().backward()  # type: ignore[no-untyped-call]

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
