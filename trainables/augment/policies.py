"""RandAugment, TrivialAugmentWide, AutoAugment (CIFAR-10) and AugMix: each sample draws its own operations and levels.

Spaces, policies and levels are torchvision's; shears are about the centre and interpolation is bilinear throughout.
Operations run on the sub-batch that drew them, so a batch costs about one pass of each operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import trainables.augment.pixels as pixels
from trainables.augment.colour import jitter
from trainables.augment.draws import Draws
from trainables.augment.warp import affine_matrix, warp

SIGNED: tuple[str, ...] = (
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation", "contrast", "sharpness",
)  # fmt: skip
"""Operations whose value may be negative."""
OPERATIONS: tuple[str, ...] = ("identity", *SIGNED, "posterize", "solarize", "autocontrast", "equalize")


@dataclass(frozen=True)
class Space:
    """The value of each operation at level 1; translations in shares of the side (or, with `pixels`, in pixels)."""

    shear: float = 0.3
    translate: float = 150.0 / 331.0
    translate_pixels: bool = False
    rotate: float = 30.0
    colour: float = 0.9
    bits: tuple[float, float] = (8.0, 4.0)
    """Bits of posterize at level 0, and how many fewer at level 1."""


WIDE = Space(shear=0.99, translate=32.0, translate_pixels=True, rotate=135.0, colour=0.99, bits=(8.0, 6.0))
USUAL = Space()
MIXED = Space(translate=1.0 / 3.0, bits=(4.0, 4.0))


def apply_operation(images: Tensor, operation: str, level: Tensor, space: Space) -> Tensor:
    """Return images after one operation at `level` [B], in [0, 1], or [-1, 1] for those of SIGNED."""
    if operation in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        return _move(images, operation, level, space)
    if operation in ("brightness", "saturation", "contrast"):
        return jitter(images, **{operation: 1.0 + level * space.colour})
    if operation == "sharpness":
        return pixels.sharpen(images, 1.0 + level * space.colour)
    if operation == "posterize":
        return pixels.posterize(images, torch.round(space.bits[0] - level * space.bits[1]))
    if operation == "solarize":
        return pixels.solarize(images, 1.0 - level)
    return _PLAIN[operation](images)


def randaugment(images: Tensor, draws: Draws, magnitude: float) -> Tensor:
    """Apply 2 of the 14 OPERATIONS a sample at level 9/30 (times `magnitude`)."""
    u = draws.uniform("randaugment", 4)
    level = torch.full_like(u[:, 0], min(1.0, 0.3 * magnitude))
    for layer in range(2):
        images = _apply_choice(images, _pick(u[:, 2 * layer], len(OPERATIONS)), level, u[:, 2 * layer + 1], USUAL)
    return images


def trivialaugment(images: Tensor, draws: Draws, magnitude: float) -> Tensor:
    """Apply 1 of the 14 OPERATIONS a sample, at one of 31 levels of the wide space (times `magnitude`)."""
    u = draws.uniform("trivialaugment", 3)
    level = (_pick(u[:, 1], 31).double() / 30.0 * magnitude).clamp_(max=1.0)
    return _apply_choice(images, _pick(u[:, 0], len(OPERATIONS)), level, u[:, 2], WIDE)


def autoaugment(images: Tensor, draws: Draws, magnitude: float) -> Tensor:
    """Apply one of the 25 pairs of CIFAR10_POLICY a sample (levels times `magnitude`)."""
    u = draws.uniform("autoaugment", 5)
    pair = _pick(u[:, 0], len(CIFAR10_POLICY))
    for place in range(2):
        column = [policy[place] for policy in CIFAR10_POLICY]
        choice = torch.tensor([_ALL.index(name) for name, _, _ in column], device=images.device)[pair]
        chance = torch.tensor([p for _, p, _ in column], dtype=torch.float64, device=images.device)[pair]
        level = torch.tensor([step / 9.0 for _, _, step in column], dtype=torch.float64, device=images.device)[pair]
        choice = torch.where(u[:, 1 + 2 * place] < chance, choice, 0)
        images = _apply_choice(images, choice, (level * magnitude).clamp(max=1.0), u[:, 2 + 2 * place], USUAL)
    return images


def augmix(images: Tensor, draws: Draws, magnitude: float) -> Tensor:
    """Mix each sample with 3 chains of 1 to 3 OPERATIONS at levels 0 to 2 of 9 (times `magnitude`), weights at random."""
    width, depth = 3, 3
    u = draws.uniform("augmix", 1 + width * (2 + 3 * depth))
    chains = u[:, 1:].view(-1, width, 2 + 3 * depth)
    share = -torch.log1p(-chains[:, :, 0])
    share = share / share.sum(dim=1, keepdim=True)
    mixed = torch.zeros_like(images)
    for chain in range(width):
        length = 1 + _pick(chains[:, chain, 1], depth)
        result = images
        for link in range(depth):
            choice, level, sign = chains[:, chain, 2 + 3 * link : 5 + 3 * link].unbind(1)
            operation = 1 + _pick(choice, len(OPERATIONS) - 1)
            operation = torch.where(link < length, operation, 0)
            result = _apply_choice(result, operation, (_pick(level, 3).double() / 9.0 * magnitude).clamp(max=1.0), sign, MIXED)
        mixed += result * share[:, chain].to(images.dtype).view(-1, 1, 1, 1)
    kept = u[:, 0].to(images.dtype).view(-1, 1, 1, 1)
    return kept * images + (1.0 - kept) * mixed


POLICIES: dict[str, Callable[[Tensor, Draws, float], Tensor]] = {
    "randaugment": randaugment,
    "trivialaugment": trivialaugment,
    "autoaugment": autoaugment,
    "augmix": augmix,
}

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda images: images,
    "autocontrast": pixels.autocontrast,
    "equalize": pixels.equalize,
    "invert": pixels.invert,
}
_ALL = (*OPERATIONS, "invert")

CIFAR10_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("saturation", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("saturation", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("saturation", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("saturation", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("saturation", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
"""(operation, probability, level in ninths) twice: AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019, as in torchvision)."""


def _apply_choice(images: Tensor, choice: Tensor, level: Tensor, sign: Tensor, space: Space) -> Tensor:
    """Apply to each sample the operation of its number in `choice` [B]; `sign` are uniforms that decide the level's sign."""
    signed = torch.where(sign < 0.5, -level, level)
    result = images.clone()
    for number, operation in enumerate(_ALL[1:], start=1):
        rows = torch.nonzero(choice == number).squeeze(1)
        if len(rows):
            value = (signed if operation in SIGNED else level)[rows]
            result[rows] = apply_operation(images[rows], operation, value, space)
    return result


def _move(images: Tensor, operation: str, level: Tensor, space: Space) -> Tensor:
    batch, _, height, width = images.shape
    zero = torch.zeros_like(level)
    if operation == "rotate":
        matrix = affine_matrix(batch, angle=-level * space.rotate, device=images.device)
    elif operation.startswith("shear"):
        angle = torch.rad2deg(torch.atan(level * space.shear))
        matrix = affine_matrix(batch, shear=(angle, zero) if operation == "shear_x" else (zero, angle), device=images.device)
    else:
        side = 1 if space.translate_pixels else (width if operation == "translate_x" else height)
        shift = torch.trunc(level * space.translate * side)
        matrix = affine_matrix(
            batch, translate=(shift, zero) if operation == "translate_x" else (zero, shift), device=images.device
        )
    return warp(images, matrix)


def _pick(u: Tensor, count: int) -> Tensor:
    """Return int64 [B] in [0, count) from uniforms [B]."""
    return torch.floor(u * count).to(torch.int64)
