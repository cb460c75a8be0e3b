"""Brightness, contrast and saturation as one colour matrix a sample, and hue by way of HSV; torchvision's definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.augment.draws import Draws

COLOUR_OPS = frozenset({"brightness", "contrast", "saturation", "hue"})
_GREY = (0.2989, 0.587, 0.114)


def jitter(
    images: Tensor, *, brightness: Tensor | None = None, contrast: Tensor | None = None, saturation: Tensor | None = None
) -> Tensor:
    """Return [B, C, H, W] in [0, 1] after brightness, contrast and saturation factors [B], in this order, as one matrix.

    Each factor alone equals torchvision's `adjust_*`; together they are clamped once, at the end. Grey has no saturation.
    """
    batch, channels = images.shape[:2]
    weights = images.new_tensor(_GREY if channels == 3 else (1.0,))
    matrix = torch.eye(channels, dtype=images.dtype, device=images.device).repeat(batch, 1, 1)
    if brightness is not None:
        matrix = matrix * brightness.to(images.dtype).view(-1, 1, 1)
    offset = images.new_zeros(batch, channels, 1)
    if contrast is not None:
        factor = contrast.to(images.dtype).view(-1, 1, 1)
        mean = ((weights @ matrix) * images.mean(dim=(2, 3))).sum(1).view(-1, 1, 1)
        matrix, offset = matrix * factor, offset + (1 - factor) * mean
    if saturation is not None and channels == 3:
        factor = saturation.to(images.dtype).view(-1, 1, 1)
        mix = factor * torch.eye(3, dtype=images.dtype, device=images.device) + (1 - factor) * weights.expand(3, 3)
        matrix, offset = mix @ matrix, mix @ offset
    return torch.baddbmm(offset, matrix, images.flatten(2)).view(images.shape).clamp_(0.0, 1.0)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Return RGB images [B, 3, H, W] with their hue turned by `shift` [B] of a full circle (torchvision's `adjust_hue`)."""
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    span = high - low
    safe = torch.where(span == 0, torch.ones_like(span), span)
    sector = torch.where(
        high == red, (green - blue) / safe, torch.where(high == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe)
    )
    hue = torch.where(span == 0, torch.zeros_like(span), sector) + 6.0 * shift.to(images.dtype).view(-1, 1, 1)
    turned = [high - span * _ramp(hue, phase) for phase in (5.0, 3.0, 1.0)]
    return torch.stack(turned, dim=1)


def _ramp(hue: Tensor, phase: float) -> Tensor:
    """Return the share of `span` that a channel lies below the largest one, for a hue in sixths of the circle."""
    place = torch.remainder(hue + phase, 6.0)
    return torch.minimum(place, 4.0 - place).clamp(0.0, 1.0)


def draw_colour(images: Tensor, draws: Draws, *, ops: frozenset[str], magnitude: float) -> Tensor:
    """Apply the COLOUR_OPS that `ops` hold: factors in 1 +- 0.1, hue +- 0.02 of the circle at magnitude 1."""

    def factor(op: str) -> Tensor | None:
        return 1.0 + draws.signed(op, 0.1 * magnitude) if op in ops else None

    images = jitter(images, brightness=factor("brightness"), contrast=factor("contrast"), saturation=factor("saturation"))
    if "hue" in ops and images.shape[1] == 3:
        images = shift_hue(images, draws.signed("hue", 0.02 * magnitude))
    return images
