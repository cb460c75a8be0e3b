"""MixUp and CutMix on a batch: each sample draws its own share from (seed, epoch, sample), and targets become soft.

Zhang et al. 2018 and Yun et al. 2019. A sample's partner is its neighbour in the batch, as in torchvision's v2 transforms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.randomness import extended, key, uniform

TRIES = 12
"""Rejection steps of a gamma draw; each accepts with p >= 0.95, so that all fail once in 10^15."""


def mix_batch(
    images: Tensor,
    targets: Tensor,
    *,
    classes: int,
    mixup: float,
    cutmix: float,
    seed: int | Tensor,
    epoch: int | Tensor,
    sample_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return mixed images [B, C, H, W] and soft targets [B, classes]; for regression (classes 0) mixed values [B].

    Targets that are soft already are mixed as they are.

    `mixup` and `cutmix` are the alpha of their Beta(alpha, alpha), 0 is off; where both are on, each sample takes one of
    them with p = 0.5. `sample_index` [B] names the samples' draws, so that batching changes no share. Several batches of one
    size may come at once: then it is [..., size], `seed` and `epoch` broadcast over it, and neighbours are those of a batch.
    """
    if mixup == 0.0 and cutmix == 0.0:
        return images, soften(targets, classes=classes, dtype=images.dtype)
    index = sample_index.to(images.device)
    keys, size = key(seed, "mix", epoch, device=images.device), index.shape[-1]
    use_cutmix = (uniform(extended(keys, 0), index).squeeze(-1) < 0.5 * (1 + (mixup == 0.0))).flatten()
    share = torch.ones(len(images), dtype=torch.float64, device=images.device)
    mixed = images
    if mixup:
        drawn = beta(mixup, extended(keys, 1), index).flatten()
        share = drawn if cutmix == 0.0 else torch.where(use_cutmix, share, drawn)
        mixed = blend(images, share, size=size)
    if cutmix:
        drawn = beta(cutmix, extended(keys, 2), index).flatten()
        centre = uniform(extended(keys, 3), index, 2).flatten(0, -2)
        inside, left = boxes(1.0 - drawn, centre, height=images.shape[2], width=images.shape[3])
        inside = inside & use_cutmix.view(-1, 1, 1)
        mixed = torch.where(inside.unsqueeze(1), neighbours(images, size), mixed)
        share = torch.where(use_cutmix, left, share)
    return mixed, blend(soften(targets, classes=classes, dtype=images.dtype), share, size=size)


def neighbours(values: Tensor, size: int) -> Tensor:
    """Return values [B, ...] with each row's neighbour in its place: the row before it in its batch of `size`, in a circle."""
    return torch.unflatten(values, 0, (len(values) // size, size)).roll(1, 1).flatten(0, 1)


def soften(targets: Tensor, *, classes: int, dtype: torch.dtype) -> Tensor:
    """Return class numbers [B] as one-hot rows [B, classes]; values (classes 0) and soft rows as they are."""
    return F.one_hot(targets, classes).to(dtype) if classes and not targets.is_floating_point() else targets.to(dtype)


def blend(values: Tensor, share: Tensor, *, size: int = 0) -> Tensor:
    """Return share * own + (1 - share) * neighbour's, for values [B, ...] and shares [B], in batches of `size` (0: one)."""
    weight = share.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
    return weight * values + (1.0 - weight) * neighbours(values, size or len(values))


def boxes(area: Tensor, centre: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return masks [B, H, W] of boxes of about `area` [B] of the image, and the share [B] that they leave.

    `centre` [B, 2] in [0, 1) places them (y, x); what hangs over the border is cut off, as in torchvision.
    """
    half = 0.5 * torch.sqrt(area).view(-1, 1)
    side = torch.tensor([height, width], dtype=torch.float64, device=area.device)
    middle, reach = torch.floor(centre * side), torch.floor(half * side)
    low, high = (middle - reach).clamp(min=0), torch.minimum(middle + reach, side)
    y = torch.arange(height, device=area.device).view(1, -1, 1)
    x = torch.arange(width, device=area.device).view(1, 1, -1)
    top, left, bottom, right = (part.view(-1, 1, 1) for part in (*low.unbind(1), *high.unbind(1)))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return inside, 1.0 - (high - low).prod(1) / (height * width)


def beta(alpha: float, keys: Tensor, index: Tensor) -> Tensor:
    """Return float64 [..., B] drawn from Beta(alpha, alpha), each from its key and index alone."""
    logs = _log_gamma_draw(alpha, torch.unflatten(uniform(keys, index, 2 * (3 * TRIES + 1)), -1, (2, -1)))
    odds = logs[..., 0] - logs[..., 1]
    if index.device.type != "cpu":
        return torch.sigmoid(odds)
    # batch by batch: the last bits of a CPU's sigmoid depend on how far from the tensor's end a value lies
    return torch.stack([torch.sigmoid(own) for own in odds.reshape(-1, odds.shape[-1])]).view(odds.shape)


def _log_gamma_draw(alpha: float, draws: Tensor) -> Tensor:
    """Return the logarithm of Gamma(alpha) draws from uniforms [..., 3 * TRIES + 1] (Marsaglia and Tsang 2000)."""
    d = alpha + 1.0 - 1.0 / 3.0
    tries = draws[..., 1:].unflatten(-1, (TRIES, 3)).clamp(min=1e-300)  # type: ignore[no-untyped-call]
    normal = torch.sqrt(-2.0 * torch.log(tries[..., 0])) * torch.cos(2.0 * torch.pi * tries[..., 1])
    cube = (1.0 + normal / (3.0 * d**0.5)) ** 3
    safe = cube.clamp(min=1e-300)
    accepted = (cube > 0) & (torch.log(tries[..., 2]) < 0.5 * normal**2 + d * (1.0 - cube + torch.log(safe)))
    first = accepted.to(torch.int8).argmax(-1, keepdim=True)
    larger = torch.log(d * safe.gather(-1, first).squeeze(-1))
    return larger + torch.log(draws[..., 0].clamp(min=1e-300)) / alpha  # Gamma(a) = Gamma(a + 1) * U ** (1 / a)
