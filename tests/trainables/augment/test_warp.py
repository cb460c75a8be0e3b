"""Affine, perspective and elastic maps equal torchvision's functional operations on the same parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from trainables.augment.draws import Draws
from trainables.augment.warp import affine_matrix, draw_corners, draw_displacement, draw_warp, perspective_matrix, warp

BILINEAR = InterpolationMode.BILINEAR


def full(count: int, value: float) -> Tensor:
    return torch.full((count,), value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("angle", "x", "y", "scale", "shear_x", "shear_y"),
    [(0, 0, 0, 1.0, 0, 0), (10, 0, 0, 1.0, 0, 0), (0, 2, -3, 1.0, 0, 0), (0, 0, 0, 1.2, 0, 0), (-7, 1, 2, 0.8, 6, -9)],
)
def test_affine_equals_torchvision(
    floats: Tensor, angle: float, x: int, y: int, scale: float, shear_x: float, shear_y: float
) -> None:
    count = len(floats)
    matrix = affine_matrix(
        count,
        angle=full(count, angle),
        translate=(full(count, x), full(count, y)),
        scale=full(count, scale),
        shear=(full(count, shear_x), full(count, shear_y)),
    )
    theirs = TF.affine(floats, angle=angle, translate=[x, y], scale=scale, shear=[shear_x, shear_y], interpolation=BILINEAR)
    torch.testing.assert_close(warp(floats, matrix), theirs, atol=2e-5, rtol=0)


def test_rotation_equals_torchvision_rotate(floats: Tensor) -> None:
    ours = warp(floats, affine_matrix(len(floats), angle=full(len(floats), -13.0)))
    torch.testing.assert_close(ours, TF.rotate(floats, 13.0, interpolation=BILINEAR), atol=2e-5, rtol=0)


def test_whole_translation_moves_pixels_exactly(floats: Tensor) -> None:
    moved = warp(floats, affine_matrix(len(floats), translate=(full(len(floats), 2), full(len(floats), 0))))
    torch.testing.assert_close(moved[..., 2:], floats[..., :-2], atol=1e-6, rtol=0)
    assert moved[..., :2].abs().max() < 1e-6


def test_perspective_equals_torchvision(floats: Tensor) -> None:
    height, width = floats.shape[2:]
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    end = [[2, 1], [width - 3, 0], [width - 2, height - 4], [1, height - 2]]
    ours = warp(
        floats,
        perspective_matrix(torch.tensor(end, dtype=torch.float64).expand(len(floats), 4, 2), height=height, width=width),
        projective=True,
    )
    theirs = TF.perspective(floats, start, end, interpolation=BILINEAR)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_elastic_equals_torchvision(floats: Tensor) -> None:
    draws = Draws(seed=5, epoch=0, sample_index=torch.arange(len(floats)))
    field = draw_displacement(draws, height=16, width=20, reach=0.1)
    ours = warp(floats, affine_matrix(len(floats)), displacement=field)
    for row in range(len(floats)):
        theirs = TF.elastic(floats[row], field[row : row + 1], interpolation=BILINEAR)
        torch.testing.assert_close(ours[row], theirs, atol=2e-5, rtol=0)


def test_elastic_field_stays_within_reach() -> None:
    field = draw_displacement(Draws(seed=1, epoch=0, sample_index=torch.arange(50)), height=8, width=8, reach=0.1)
    assert 0.02 < field.abs().mean() < 0.1
    assert field.abs().max() < 0.15  # bicubic overshoots its knots a little


def test_half_of_the_samples_keep_their_corners() -> None:
    corners = draw_corners(Draws(seed=2, epoch=0, sample_index=torch.arange(1000)), height=10, width=20, distortion=0.4)
    moved = (corners != torch.tensor([[0.0, 0], [19, 0], [19, 9], [0, 9]], dtype=torch.float64)).any(dim=(1, 2))
    assert moved.double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert corners.amin() >= 0
    assert corners[..., 0].max() <= 19
    assert corners[..., 1].max() <= 9


def test_identity_without_operations(floats: Tensor) -> None:
    draws = Draws(seed=0, epoch=0, sample_index=torch.arange(len(floats)))
    torch.testing.assert_close(draw_warp(floats, draws, ops=frozenset(), magnitude=1.0), floats, atol=1e-6, rtol=0)
