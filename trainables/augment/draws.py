"""Random parameters, each a function of (trial seed, epoch, sample, purpose) alone: batching and restarts change none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainables.randomness import extended, key, uniform

PURPOSES: tuple[str, ...] = (
    "hflip", "crop", "translate", "rotate", "scale", "shear", "perspective", "elastic", "brightness", "contrast", "saturation",
    "hue", "blur", "noise", "erase", "randaugment", "trivialaugment", "autoaugment", "augmix", "own",
)  # fmt: skip
"""Every use has its own numbers, so that adding one set to another changes no draw of either."""


@dataclass(frozen=True)
class Draws:
    """The generator of B samples."""

    seed: int | Tensor
    """One, or where packed trials share a batch, numbers that broadcast over `sample_index`; so is `epoch`."""
    epoch: int | Tensor
    sample_index: Tensor
    """[...], B in all: the row of each sample in the whole training split."""

    @cached_property
    def _keys(self) -> Tensor:
        """What all purposes have in common."""
        return key(self.seed, "augment", self.epoch, device=self.sample_index.device)

    def uniform(self, purpose: str, count: int = 1) -> Tensor:
        """Return float64 [B, count] in [0, 1)."""
        return uniform(extended(self._keys, PURPOSES.index(purpose) + 1), self.sample_index, count).flatten(0, -2)

    def between(self, purpose: str, low: float, high: float) -> Tensor:
        """Return float64 [B] in [low, high)."""
        return low + (high - low) * self.uniform(purpose).squeeze(-1)

    def signed(self, purpose: str, strength: float) -> Tensor:
        """Return float64 [B] in [-strength, strength)."""
        return self.between(purpose, -strength, strength)

    def normal(self, purpose: str, count: int) -> Tensor:
        """Return float32 [B, count] of standard normals (Box-Muller on pairs of uniforms)."""
        pairs = self.uniform(purpose, 2 * ((count + 1) // 2)).view(self.sample_index.numel(), -1, 2)
        radius = torch.sqrt(-2.0 * torch.log1p(-pairs[..., 0]))
        angle = 2.0 * torch.pi * pairs[..., 1]
        both = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
        return both.flatten(-2)[..., :count].to(torch.float32)
