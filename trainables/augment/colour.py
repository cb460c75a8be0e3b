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
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    circle = (high - low).mul_(6.0)
    on_green = torch.sub(blue, red).add_(circle, alpha=1 / 3)
    on_blue = torch.sub(red, green).add_(circle, alpha=2 / 3)
    hue = torch.where(high == green, on_green, on_blue)
    hue = torch.where(high == red, torch.sub(green, blue, out=on_green), hue).div_(circle.clamp(min=1e-12))
    hue.add_(shift.to(images.dtype).view(-1, 1, 1) + 1.0).frac_()
    result = torch.empty_like(images)
    red_base, other_base = low.sub_(circle, alpha=1 / 6), high.add_(circle, alpha=1 / 6)
    for channel, (centre, base, sign) in enumerate(((3 / 6, red_base, 1), (2 / 6, other_base, -1), (4 / 6, other_base, -1))):
        away = torch.sub(hue, centre, out=on_blue).abs_().clamp_(1 / 6, 2 / 6)  # from the hue where the channel turns
        torch.addcmul(base, circle, away, value=sign, out=result[:, channel])
    return result.clamp_(0.0, 1.0)


def draw_colour(images: Tensor, draws: Draws, *, ops: frozenset[str], magnitude: float) -> Tensor:
    """Apply the COLOUR_OPS that `ops` hold: factors in 1 +- 0.1, hue +- 0.02 of the circle at magnitude 1."""

    def factor(op: str) -> Tensor | None:
        return 1.0 + draws.signed(op, 0.1 * magnitude) if op in ops else None

    images = jitter(images, brightness=factor("brightness"), contrast=factor("contrast"), saturation=factor("saturation"))
    if "hue" in ops and images.shape[1] == 3:
        images = shift_hue(images, draws.signed("hue", 0.02 * magnitude))
    return images
