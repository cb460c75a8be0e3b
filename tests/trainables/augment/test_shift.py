"""The gather equals torchvision's reflective padding, crop and mirror, and its draws are what they claim."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from trainables.augment.draws import Draws
from trainables.augment.shift import draw_shift_and_flip, shift_and_flip


@pytest.mark.parametrize(("top", "left", "flip"), [(0, 0, False), (3, -2, False), (-4, 4, True), (1, 0, True), (-4, -4, False)])
def test_equals_torchvision_pad_crop_flip(images: Tensor, top: int, left: int, flip: bool) -> None:
    count, height, width, _ = images.shape
    ours = shift_and_flip(
        images,
        top=torch.full((count,), top),
        left=torch.full((count,), left),
        flip=torch.full((count,), flip),
    )
    padded = TF.pad(images.permute(0, 3, 1, 2), [4, 4, 4, 4], padding_mode="reflect")
    theirs = TF.crop(padded, 4 + top, 4 + left, height, width)
    theirs = TF.horizontal_flip(theirs) if flip else theirs
    assert torch.equal(ours.permute(0, 3, 1, 2), theirs)


def test_each_sample_moves_by_its_own_offsets(images: Tensor) -> None:
    top, left = torch.arange(-3, 3), torch.arange(3, -3, -1)
    flip = torch.tensor([True, False] * 3)
    together = shift_and_flip(images, top=top, left=left, flip=flip)
    for row in range(len(images)):
        one = slice(row, row + 1)
        assert torch.equal(together[one], shift_and_flip(images[one], top=top[one], left=left[one], flip=flip[one]))


def test_crop_offsets_are_uniform_within_the_padding_and_half_are_mirrored() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).view(1, 1, 32, 1).expand(4000, 32, 32, 1).contiguous()
    draws = Draws(seed=7, epoch=3, sample_index=torch.arange(4000))
    middle = draw_shift_and_flip(ramp, draws, ops=frozenset({"crop"}), magnitude=1.0)[:, 0, 16, 0].int() - 16
    counts = torch.bincount(middle + 4, minlength=9)
    assert counts.tolist() == pytest.approx([4000 / 9] * 9, rel=0.2)
    mirrored = draw_shift_and_flip(ramp, draws, ops=frozenset({"hflip"}), magnitude=1.0)[:, 0, 0, 0] == 31
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_padding_never_exceeds_a_tiny_image() -> None:
    tiny = torch.arange(4, dtype=torch.uint8).view(1, 2, 2, 1)
    draws = Draws(seed=0, epoch=0, sample_index=torch.tensor([1]))
    assert set(draw_shift_and_flip(tiny, draws, ops=frozenset({"crop"}), magnitude=2.0).flatten().tolist()) <= {0, 1, 2, 3}
