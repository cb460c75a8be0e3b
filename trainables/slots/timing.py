"""Whether packing and replaying pay, by a short timing of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from trainables.slots.graphs import Capture, GraphedStep, Step
from trainables.timing import ratio

LARGEST = 64
"""Slots of the largest bucket."""


def bucket(slots: int) -> int:
    """Return the power of two at or below a number of slots, for which the timing is made.

    >>> [bucket(slots) for slots in (2, 3, 8, 100)]
    [2, 2, 8, 64]
    """
    return int(min(LARGEST, 1 << (max(slots, 1).bit_length() - 1)))


def packing_gain(step: Step, inputs: Callable[[], Sequence[torch.Tensor]], *, alone: Sequence[Callable[[], object]]) -> float:
    """Return the time of single models' steps one after another over that of the array's step (above 1: the array pays).

    `inputs` puts together what the array's step takes, which belongs to its time.
    """

    def in_turns() -> None:
        for own in alone:
            own()

    return ratio(in_turns, lambda: step(*inputs()), inputs()[0].device)


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
