"""Rotation, scale, shear, translation, perspective and elastic distortion as one map of coordinates and one grid_sample.

A matrix maps a pixel of the result to where it is read, both in pixels from the image's centre; torchvision's conventions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augment.draws import Draws

WARP_OPS = frozenset({"translate", "rotate", "scale", "shear", "perspective", "elastic"})


def affine_matrix(
    batch: int,
    *,
    angle: Tensor | None = None,
    translate: tuple[Tensor, Tensor] | None = None,
    scale: Tensor | None = None,
    shear: tuple[Tensor, Tensor] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return float64 [B, 3, 3], the inverse map of torchvision's `affine` about the centre (degrees, clockwise; pixels)."""
    zero = torch.zeros(batch, dtype=torch.float64, device=device)
    turn = torch.deg2rad(angle) if angle is not None else zero
    shear_x, shear_y = (torch.deg2rad(part) for part in shear) if shear else (zero, zero)
    shift_x, shift_y = translate or (zero, zero)
    size = scale if scale is not None else zero + 1.0
    a = torch.cos(turn - shear_y) / torch.cos(shear_y)
    b = -torch.cos(turn - shear_y) * torch.tan(shear_x) / torch.cos(shear_y) - torch.sin(turn)
    c = torch.sin(turn - shear_y) / torch.cos(shear_y)
    d = -torch.sin(turn - shear_y) * torch.tan(shear_x) / torch.cos(shear_y) + torch.cos(turn)
    inverse = torch.stack([d, -b, -c, a], dim=-1).view(batch, 2, 2) / size.view(batch, 1, 1)
    offset = -inverse @ torch.stack([shift_x, shift_y], dim=-1).unsqueeze(-1)
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=device).expand(batch, 1, 3)
    return torch.cat([torch.cat([inverse, offset], dim=2), last], dim=1)


def perspective_matrix(end: Tensor, *, height: int, width: int) -> Tensor:
    """Return float64 [B, 3, 3] that brings the image's corner pixels to `end` [B, 4, 2] (x, y; clockwise from top left)."""
    batch = len(end)
    right, bottom = width - 1.0, height - 1.0
    start = end.new_tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]]).expand(batch, 4, 2)
    one, none = torch.ones_like(end[..., :1]), torch.zeros_like(end)
    x_rows = torch.cat([end, one, none, none[..., :1], -start[..., :1] * end], dim=-1)
    y_rows = torch.cat([none, none[..., :1], end, one, -start[..., 1:] * end], dim=-1)
    system = torch.stack([x_rows, y_rows], dim=2).view(batch, 8, 8)
    solution = torch.linalg.solve(system, start.reshape(batch, 8))
    corner = torch.cat([solution, one[:, 0]], dim=1).view(batch, 3, 3)
    return _moved(-width / 2, -height / 2, end) @ corner @ _moved(width / 2, height / 2, end)


def warp(images: Tensor, matrix: Tensor, *, displacement: Tensor | None = None, projective: bool = False) -> Tensor:
    """Return float [B, C, H, W] read bilinearly where `matrix` [B, 3, 3] points, zeros outside.

    `displacement` [B, H, W, 2] (x, y in units of half the image, as torchvision's `elastic`) is added before the matrix;
    `projective` says that the matrix holds a perspective (its last row is not 0, 0, 1).
    """
    height, width = images.shape[-2:]
    scale = torch.tensor([2.0 / width, 2.0 / height, 1.0], dtype=torch.float64, device=images.device)
    rows = (matrix * scale.view(1, 3, 1)).to(torch.float32)  # to grid_sample's units, in which the image spans [-1, 1]
    x = (torch.arange(width, dtype=torch.float32, device=images.device) - (width - 1) / 2).view(1, 1, width)
    y = (torch.arange(height, dtype=torch.float32, device=images.device) - (height - 1) / 2).view(1, height, 1)
    if displacement is not None:
        x, y = x + displacement[..., 0] * (width / 2), y + displacement[..., 1] * (height / 2)
    m = rows.view(-1, 3, 3, 1, 1)
    grid = torch.empty(len(images), height, width, 2, dtype=torch.float32, device=images.device)
    for axis in range(2):
        torch.add(m[:, axis, 0] * x, m[:, axis, 1] * y + m[:, axis, 2], out=grid[..., axis])
    if projective:
        grid /= (m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2]).unsqueeze(-1)
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


def draw_warp(images: Tensor, draws: Draws, *, ops: frozenset[str], magnitude: float) -> Tensor:
    """Apply the WARP_OPS that `ops` hold.

    At magnitude 1: rotation to 10 degrees, zoom to 20 %, shear to 10 degrees, translation to an eighth of the side in whole
    pixels, perspective (p = 0.5) that moves corners inwards to a tenth of the side, elastic displacement to 3 % of the side.
    """
    batch, _, height, width = images.shape
    shift = draws.uniform("translate", 2) * 2 - 1 if "translate" in ops else None
    shear = (draws.uniform("shear", 2) * 2 - 1) * 10.0 * magnitude if "shear" in ops else None
    matrix = affine_matrix(
        batch,
        angle=draws.signed("rotate", 10.0 * magnitude) if "rotate" in ops else None,
        translate=None
        if shift is None
        else (torch.round(shift[:, 0] * width / 8 * magnitude), torch.round(shift[:, 1] * height / 8 * magnitude)),
        scale=1.0 + draws.signed("scale", 0.2 * magnitude) if "scale" in ops else None,
        shear=None if shear is None else (shear[:, 0], shear[:, 1]),
        device=images.device,
    )
    if "perspective" in ops:
        end = draw_corners(draws, height=height, width=width, distortion=0.2 * magnitude)
        matrix = perspective_matrix(end, height=height, width=width) @ matrix
    displacement = draw_displacement(draws, height=height, width=width, reach=0.06 * magnitude) if "elastic" in ops else None
    return warp(images, matrix, displacement=displacement, projective="perspective" in ops)


def draw_corners(draws: Draws, *, height: int, width: int, distortion: float) -> Tensor:
    """Return float64 [B, 4, 2]: corners moved inwards by up to `distortion / 2` of the side; half the samples keep theirs."""
    u = draws.uniform("perspective", 9)
    active = (u[:, 8] < 0.5).view(-1, 1, 1)
    inward = u[:, :8].view(-1, 4, 2) * u.new_tensor([width, height]) * (distortion / 2) * active
    right, bottom = width - 1.0, height - 1.0
    corners = u.new_tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    return corners + inward * u.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])


def draw_displacement(draws: Draws, *, height: int, width: int, reach: float, knots: int = 4) -> Tensor:
    """Return float32 [B, H, W, 2]: a smooth field from `knots` x `knots` random vectors of at most `reach` half images."""
    u = draws.uniform("elastic", 2 * knots * knots).to(torch.float32) * 2 - 1
    field = F.interpolate(u.view(-1, 2, knots, knots) * reach, size=(height, width), mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _moved(x: float, y: float, like: Tensor) -> Tensor:
    return like.new_tensor([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
