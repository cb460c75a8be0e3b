"""The timing that chooses between packed and one after another: buckets, and the ratio."""

from __future__ import annotations

import time

import torch

from trainables.slots.timing import bucket, packing_gain


def test_buckets_are_powers_of_two_below() -> None:
    assert [bucket(slots) for slots in (1, 2, 3, 4, 7, 8, 63, 64, 1000)] == [1, 2, 2, 4, 4, 8, 32, 64, 64]


def test_the_gain_is_the_time_of_all_in_turns_over_that_of_the_array() -> None:
    def step(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        time.sleep(0.002)
        return inputs

    gain = packing_gain(step, lambda: [torch.zeros(1)], alone=[lambda: time.sleep(0.005)] * 4)
    assert gain > 1  # 10, on a machine that does nothing else
