"""Operations on pixel values that policies pick from, batched, on images [B, C, H, W] in [0, 1]; torchvision's definitions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Return images with `bits` [B] (0 to 8) a channel."""
    levels = torch.exp2(bits.to(images.dtype)).view(-1, 1, 1, 1)
    return torch.minimum((images * levels).floor_(), levels - 1) / levels


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Return images with values at or above `threshold` [B] inverted."""
    return torch.where(images >= threshold.to(images.dtype).view(-1, 1, 1, 1), 1.0 - images, images)


def invert(images: Tensor) -> Tensor:
    """Return the negative."""
    return 1.0 - images


def autocontrast(images: Tensor) -> Tensor:
    """Return each channel of each image stretched to [0, 1] (a flat channel stays)."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    low, span = torch.where(flat, 0.0, low), torch.where(flat, 1.0, high - low)
    return ((images - low) / span).clamp_(0.0, 1.0)


def equalize(images: Tensor) -> Tensor:
    """Return each channel of each image with its histogram of 256 levels flattened (PIL's scheme)."""
    levels = (images * (256.0 - 1e-3)).to(torch.int64).flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    total = counts.cumsum(2)
    brightest = counts.gather(2, total.argmax(2, keepdim=True))
    step = (levels.shape[2] - brightest) // 255
    safe = step.clamp(min=1)
    table = ((total - counts + safe // 2) // safe).clamp_(0, 255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(2, levels).to(images.dtype).div_(255.0).view(images.shape)


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Return images blended away from their smoothed form by `factor` [B] (1: unchanged, 0: smooth); the border stays."""
    if min(images.shape[2:]) <= 2:
        return images
    kernel = images.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).div_(13.0)
    smooth = F.conv2d(images, kernel.expand(images.shape[1], 1, 3, 3), groups=images.shape[1])
    result = images.clone()
    inner = result[..., 1:-1, 1:-1]
    inner += (smooth - inner) * (1.0 - factor.to(images.dtype).view(-1, 1, 1, 1))
    return result.clamp_(0.0, 1.0)
