"""Which changes that keep the label a model cannot bear: its accuracy on images turned, moved, scaled, dimmed, blurred, ..."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Images = NDArray[np.uint8]
Predict = Callable[[Images], NDArray[np.floating[Any]]]
"""uint8 images [N, H, W, C] -> probabilities [N, K]."""
BATCH = 256


@dataclass(frozen=True)
class Probe:
    """One change: its name, the augmentation operation that teaches it, and itself as a function.

    `change` maps floats [B, C, H, W] in [0, 1] and one uniform number in [0, 1) an image to changed images.
    """

    name: str
    operation: str
    change: Callable[[Tensor, Tensor], Tensor]
    colour_only: bool = False


@dataclass(frozen=True)
class Drop:
    """What one change costs: accuracy under it, and the drop with its paired 95 % interval."""

    name: str
    operation: str
    accuracy: float
    drop: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready mapping."""
        return asdict(self)


def measure(predict: Predict, images: Images, labels: NDArray[np.integer[Any]], *, seed: int) -> list[Drop]:
    """Return the drop of every probe, largest first; the same images under each, so that differences are paired.

    The interval is the normal one of paired differences of right and wrong. Colour probes are left out for grey images.
    """
    plain = _right(predict, images, labels)
    drops = []
    for place, probe in enumerate(PROBES):
        if probe.colour_only and images.shape[3] == 1:
            continue
        draws = np.random.default_rng([seed, place]).random(len(images))
        drops.append(_drop(probe, plain, _right(predict, changed(probe, images, draws), labels)))
    return sorted(drops, key=lambda drop: -drop.drop)


def changed(probe: Probe, images: Images, draws: NDArray[np.float64]) -> Images:
    """Return the images under a probe, uint8 again; `draws` [N] in [0, 1) says which way each one goes."""
    parts = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2).float() / 255
        after = probe.change(batch, torch.from_numpy(draws[start : start + BATCH]).float())
        parts.append((after.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def _right(predict: Predict, images: Images, labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    parts = [predict(images[start : start + BATCH]).argmax(axis=1) for start in range(0, len(images), BATCH)]
    return np.asarray(np.concatenate(parts) == labels, dtype=np.float64)


def _drop(probe: Probe, before: NDArray[np.float64], after: NDArray[np.float64]) -> Drop:
    difference = before - after
    mean = float(difference.mean())
    half = 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 1.0
    return Drop(probe.name, probe.operation, float(after.mean()), mean, mean - half, mean + half)


def warp(images: Tensor, *, angle: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Turn by `angle` (radians), enlarge by `zoom` and move by shares of the side; the border is drawn out."""
    height, width = images.shape[-2:]
    cos, sin, ratio = torch.cos(angle) / zoom, torch.sin(angle) / zoom, height / width
    rows = [torch.stack([cos, sin * ratio, -2 * right], dim=1), torch.stack([-sin / ratio, cos, -2 * down], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def turn(images: Tensor, draws: Tensor) -> Tensor:
    """Turn by 15 degrees, left or right."""
    none = torch.zeros_like(draws)
    return warp(images, angle=_sign(draws) * math.radians(15), zoom=none + 1, right=none, down=none)


def move(images: Tensor, draws: Tensor) -> Tensor:
    """Move by an eighth of the side in a direction drawn for each image."""
    none, angle = torch.zeros_like(draws), 2 * math.pi * draws
    return warp(images, angle=none, zoom=none + 1, right=torch.cos(angle) / 8, down=torch.sin(angle) / 8)


def shrink(images: Tensor, draws: Tensor) -> Tensor:
    """Show the object at three quarters of its size."""
    none = torch.zeros_like(draws)
    return warp(images, angle=none, zoom=none + 0.75, right=none, down=none)


def cut(images: Tensor, draws: Tensor) -> Tensor:
    """Enlarge by a third, so that the border is cut off."""
    none = torch.zeros_like(draws)
    return warp(images, angle=none, zoom=none + 4 / 3, right=none, down=none)


def light(images: Tensor, draws: Tensor) -> Tensor:
    """Darken or brighten by 30 %."""
    return images * (1 + 0.3 * _sign(draws)).view(-1, 1, 1, 1)


def contrast(images: Tensor, draws: Tensor) -> Tensor:
    """Halve the contrast around each image's own mean."""
    del draws
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * 0.5


def hue(images: Tensor, draws: Tensor) -> Tensor:
    """Turn the colours by 30 degrees about the grey axis, one way or the other."""
    angle = _sign(draws) * math.radians(30)
    cos, third, root = torch.cos(angle), (1 - torch.cos(angle)) / 3, torch.sin(angle) / math.sqrt(3)
    own, after, before = cos + third, third - root, third + root
    matrix = torch.stack([own, after, before, before, own, after, after, before, own], dim=1).view(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix, images)


def blur(images: Tensor, draws: Tensor) -> Tensor:
    """Blur with a Gaussian of a thirty-second of the side (at least 0.7 pixel)."""
    del draws
    sigma = max(0.7, min(images.shape[-2:]) / 32)
    reach = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = (line / line.sum()).view(1, 1, -1).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, line.unsqueeze(2), groups=images.shape[1])
    return F.conv2d(across, line.unsqueeze(3), groups=images.shape[1])


def noise(images: Tensor, draws: Tensor) -> Tensor:
    """Add Gaussian noise of 0.08, drawn from each image's own number."""
    noises = [
        torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(int(draw * 2**31))) for draw in draws.tolist()
    ]
    return images + 0.08 * torch.stack(noises)


def hide(images: Tensor, draws: Tensor) -> Tensor:
    """Paint a square of a third of the side grey, at a place drawn for each image."""
    height, width = images.shape[-2:]
    side = max(1, round(min(height, width) / 3))
    top = (draws * (height - side + 1)).floor().view(-1, 1, 1)
    left = ((draws * 977 % 1) * (width - side + 1)).floor().view(-1, 1, 1)
    y, x = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    return torch.where(inside.unsqueeze(1), torch.full_like(images, 0.5), images)


def mirror(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror left to right."""
    del draws
    return images.flip(-1)


def _sign(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0)


PROBES: tuple[Probe, ...] = (
    Probe("mirrored", "hflip", mirror),
    Probe("rotated", "rotate", turn),
    Probe("shifted", "translate", move),
    Probe("smaller", "scale", shrink),
    Probe("cut off", "crop", cut),
    Probe("lighting", "brightness", light),
    Probe("low contrast", "contrast", contrast),
    Probe("colours", "hue", hue, colour_only=True),
    Probe("blurred", "blur", blur),
    Probe("noisy", "noise", noise),
    Probe("hidden part", "erase", hide),
)
