"""Blur and erase equal torchvision's functional operations; noise is normal and keyed by the sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from trainables.augment.draws import Draws
from trainables.augment.filters import blur, draw_blur, draw_erase, draw_noise, erase


def test_blur_equals_torchvision_with_a_sigma_for_each_sample(floats: Tensor) -> None:
    sigma = torch.tensor([0.3, 0.5, 0.9, 1.3, 2.0, 0.0])
    ours = blur(floats, sigma, kernel_size=7)
    for row in range(5):
        theirs = TF.gaussian_blur(floats[row], [7, 7], [sigma[row].item()] * 2)
        torch.testing.assert_close(ours[row], theirs, atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[5], floats[5])


def test_erase_equals_torchvision(floats: Tensor) -> None:
    top, left, height, width = torch.tensor(
        [[0, 3, 15, 2, 5, 0], [1, 0, 19, 4, 4, 0], [4, 16, 1, 3, 2, 0], [5, 20, 1, 3, 7, 0]]
    )
    ours = erase(floats, top=top, left=left, height=height, width=width)
    for row, image in enumerate(floats):
        place = [int(part[row]) for part in (top, left, height, width)]
        theirs = TF.erase(image, *place, v=image.mean(dim=(1, 2), keepdim=True))
        torch.testing.assert_close(ours[row], theirs)


def test_noise_is_standard_normal_and_independent_of_the_batch() -> None:
    draws = Draws(seed=3, epoch=1, sample_index=torch.arange(40))
    field = draws.normal("noise", 501)
    assert field.mean().item() == pytest.approx(0.0, abs=0.03)
    assert field.std().item() == pytest.approx(1.0, abs=0.02)
    assert (field.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.02)
    assert abs(torch.corrcoef(field[:, :2].T)[0, 1].item()) < 0.5
    assert torch.equal(Draws(3, 1, torch.arange(10, 12)).normal("noise", 501), field[10:12])


def test_half_of_the_samples_get_noise_of_at_most_a_twentieth() -> None:
    flat = torch.full((400, 1, 16, 16), 0.5)
    spread = draw_noise(flat, Draws(0, 0, torch.arange(400)), magnitude=1.0).flatten(1).std(dim=1)
    assert (spread == 0).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert 0.04 < spread.max() < 0.06


def test_half_of_the_samples_are_blurred() -> None:
    images = torch.rand(200, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    changed = (draw_blur(images, Draws(0, 0, torch.arange(200)), magnitude=1.0) - images).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 0.3 < changed.float().mean().item() < 0.55


def test_erased_area_is_within_bounds() -> None:
    images = torch.rand(500, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    share = (draw_erase(images, Draws(0, 0, torch.arange(500)), magnitude=1.0) != images).float().mean(dim=(1, 2, 3))
    assert (share == 0).float().mean().item() == pytest.approx(0.5, abs=0.07)
    hit = share[share > 0]
    assert 0.01 < hit.min() < 0.04
    assert 0.15 < hit.max() < 0.22
