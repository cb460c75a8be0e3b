"""MixUp and CutMix on a batch: each sample draws its own share from (seed, epoch, sample), and targets become soft.

Zhang et al. 2018 and Yun et al. 2019. A sample's partner is its neighbour in the batch, as in torchvision's v2 transforms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.randomness import key, uniform

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
    them with p = 0.5. `sample_index` [B] names the samples' draws, so that batching changes no share.
    """
    index = sample_index.to(images.device)
    use_cutmix = uniform(key(seed, "mix", epoch, 0, device=images.device), index).squeeze(-1) < 0.5 * (1 + (mixup == 0.0))
    if mixup == 0.0 and cutmix == 0.0:
        return images, soften(targets, classes=classes, dtype=images.dtype)
    share = torch.ones(len(images), dtype=torch.float64, device=images.device)
    mixed = images
    if mixup:
        drawn = beta(mixup, key(seed, "mix", epoch, 1, device=images.device), index)
        share = drawn if cutmix == 0.0 else torch.where(use_cutmix, share, drawn)
        mixed = blend(images, share)
    if cutmix:
        drawn = beta(cutmix, key(seed, "mix", epoch, 2, device=images.device), index)
        centre = uniform(key(seed, "mix", epoch, 3, device=images.device), index, 2)
        inside, left = boxes(1.0 - drawn, centre, height=images.shape[2], width=images.shape[3])
        inside = inside & use_cutmix.view(-1, 1, 1)
        mixed = torch.where(inside.unsqueeze(1), images.roll(1, 0), mixed)
        share = torch.where(use_cutmix, left, share)
    return mixed, blend(soften(targets, classes=classes, dtype=images.dtype), share)


def soften(targets: Tensor, *, classes: int, dtype: torch.dtype) -> Tensor:
    """Return class numbers [B] as one-hot rows [B, classes]; values (classes 0) and soft rows as they are."""
    return F.one_hot(targets, classes).to(dtype) if classes and not targets.is_floating_point() else targets.to(dtype)


def blend(values: Tensor, share: Tensor) -> Tensor:
    """Return share * own + (1 - share) * neighbour's, for values [B, ...] and shares [B]."""
    weight = share.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
    return weight * values + (1.0 - weight) * values.roll(1, 0)


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
    """Return float64 [B] drawn from Beta(alpha, alpha), each from its key and index alone."""
    draws = uniform(keys, index, 2 * (3 * TRIES + 1)).view(len(index), 2, -1)
    logs = _log_gamma_draw(alpha, draws)
    return torch.sigmoid(logs[:, 0] - logs[:, 1])


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
