"""The timing that chooses between packed and one after another: buckets, and the ratio."""

from __future__ import annotations

import torch
from torch import nn

from trainables.slots.timing import bucket, packing_gain


def test_buckets_are_powers_of_two_below() -> None:
    assert [bucket(slots) for slots in (1, 2, 3, 4, 7, 8, 63, 64, 1000)] == [1, 2, 2, 4, 4, 8, 32, 64, 64]


def test_the_gain_is_a_ratio_and_zero_for_what_has_no_packed_form() -> None:
    images = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert packing_gain(net, images, slots=2) > 0
    assert packing_gain(nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 2)), images, slots=2) == 0.0
