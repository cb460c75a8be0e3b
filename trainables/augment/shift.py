"""Crop with reflective padding and mirroring as one gather on uint8 images, each sample by its own offsets."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.augment.draws import Draws


def shift_and_flip(images: Tensor, *, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Return [B, H, W, C] moved and mirrored, of the same dtype.

    Row r of the result is row `top + r` of the input, column q is column `left + q` (mirrored where `flip`), with positions
    beyond the border reflected: torchvision's pad(reflect), crop and horizontal flip in one step. `top`, `left` are int64 [B].
    """
    batch, height, width, channels = images.shape
    rows = _reflect(top.unsqueeze(1) + torch.arange(height, device=images.device), height)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = _reflect(left.unsqueeze(1) + torch.where(flip.unsqueeze(1), width - 1 - columns, columns), width)
    starts = (rows + torch.arange(batch, device=images.device).unsqueeze(1) * height) * width
    kind = torch.int32 if images.numel() < 2**31 else torch.int64  # half the index, a third less time
    index = starts.to(kind).unsqueeze(2) + columns.to(kind).unsqueeze(1)
    return images.reshape(-1, channels).index_select(0, index.view(-1)).view(images.shape)


def draw_shift_and_flip(images: Tensor, draws: Draws, *, ops: frozenset[str], magnitude: float) -> Tensor:
    """Apply "crop" (padding an eighth of the side at magnitude 1: 4 px at 32) and "hflip" (p = 0.5) where `ops` hold them."""
    batch, height, width, _ = images.shape
    top = left = torch.zeros(batch, dtype=torch.int64, device=images.device)
    flip = torch.zeros(batch, dtype=torch.bool, device=images.device)
    if "crop" in ops:
        u = draws.uniform("crop", 2)
        top, left = (_offset(u[:, axis], side, magnitude) for axis, side in enumerate((height, width)))
    if "hflip" in ops:
        flip = draws.uniform("hflip").squeeze(-1) < 0.5
    return shift_and_flip(images, top=top, left=left, flip=flip)


def _offset(u: Tensor, side: int, magnitude: float) -> Tensor:
    """Return whole offsets in [-padding, padding], all equally likely."""
    padding = min(round(side / 8 * magnitude), side - 1)
    return torch.floor(u * (2 * padding + 1)).to(torch.int64) - padding


def _reflect(position: Tensor, size: int) -> Tensor:
    """Return positions folded back into [0, size) without repeating the border (for offsets below the size)."""
    last = size - 1
    return last - (last - position.abs()).abs()
