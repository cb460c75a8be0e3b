"""Gaussian blur, noise and erased rectangles, each sample by its own parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augment.draws import Draws


def blur(images: Tensor, sigma: Tensor, *, kernel_size: int) -> Tensor:
    """Return [B, C, H, W] blurred by a Gaussian of `sigma` [B] pixels (0: unchanged), reflected at the border."""
    batch, channels, height, width = images.shape
    reach = kernel_size // 2
    taps = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma.to(torch.float32).clamp(min=1e-3).unsqueeze(1)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(images.dtype).repeat_interleave(channels, 0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").reshape(1, batch * channels, height + 2 * reach, width + 2 * reach)
    across = F.conv2d(padded, kernel.view(-1, 1, 1, kernel_size), groups=batch * channels)
    return F.conv2d(across, kernel.view(-1, 1, kernel_size, 1), groups=batch * channels).view(images.shape)


def erase(images: Tensor, *, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Return [B, C, H, W] with one rectangle a sample ([B] each, in pixels) filled by the image's own mean colour."""
    y = torch.arange(images.shape[2], device=images.device).view(1, -1, 1)
    x = torch.arange(images.shape[3], device=images.device).view(1, 1, -1)
    top, left, height, width = (part.view(-1, 1, 1) for part in (top, left, height, width))
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    return torch.where(inside.unsqueeze(1), images.mean(dim=(2, 3), keepdim=True), images)


def draw_blur(images: Tensor, draws: Draws, *, magnitude: float) -> Tensor:
    """Blur half of the samples by up to 0.75 px at 32 px, 2.25 px at 224 px (magnitude 1)."""
    side = min(images.shape[2:])
    largest = (0.5 + side / 128) * magnitude
    kernel_size = 2 * min(math.ceil(3 * largest), side - 1) + 1
    u = draws.uniform("blur", 2)
    sigma = torch.where(u[:, 0] < 0.5, u[:, 1] * largest, 0.0)
    return blur(images, sigma, kernel_size=kernel_size)


def draw_noise(images: Tensor, draws: Draws, *, magnitude: float) -> Tensor:
    """Add Gaussian noise of up to 0.05 standard deviation (magnitude 1) to half of the samples, clamped to [0, 1]."""
    count = images[0].numel()
    u = draws.uniform("noise", 2)
    sigma = torch.where(u[:, 0] < 0.5, u[:, 1] * 0.05 * magnitude, 0.0).to(images.dtype).view(-1, 1, 1, 1)
    field = draws.normal("noise", count + 2)[:, 2:].to(images.dtype).view(images.shape)
    return (images + sigma * field).clamp_(0.0, 1.0)


def draw_erase(images: Tensor, draws: Draws, *, magnitude: float) -> Tensor:
    """Erase a rectangle of 2 % to 20 % of the area (magnitude 1), sides 1:3 to 3:1, in half of the samples."""
    _, _, rows, columns = images.shape
    u = draws.uniform("erase", 5)
    share = 0.02 + u[:, 0] * max(0.0, 0.2 * magnitude - 0.02)
    ratio = torch.exp((u[:, 1] * 2 - 1) * math.log(3.0))
    height = torch.round(torch.sqrt(share * rows * columns * ratio)).clamp(1, rows)
    width = torch.round(torch.sqrt(share * rows * columns / ratio)).clamp(1, columns)
    height = torch.where(u[:, 4] < 0.5, height, 0.0)
    top, left = torch.floor(u[:, 2] * (rows - height + 1)), torch.floor(u[:, 3] * (columns - width + 1))
    return erase(images, top=top, left=left, height=height, width=width)
