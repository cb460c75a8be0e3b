"""Policies use torchvision's tables, and each operation at a level equals torchvision's at the value of its table."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode, RandAugment, TrivialAugmentWide
from torchvision.transforms.v2 import functional as TF

from trainables.augment.draws import Draws
from trainables.augment.policies import (
    CIFAR10_POLICY,
    OPERATIONS,
    SIGNED,
    USUAL,
    WIDE,
    Space,
    apply_operation,
    augmix,
    autoaugment,
    randaugment,
    trivialaugment,
)

THEIR_NAMES = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY",
    "rotate": "Rotate", "brightness": "Brightness", "saturation": "Color", "contrast": "Contrast", "sharpness": "Sharpness",
    "posterize": "Posterize", "solarize": "Solarize", "autocontrast": "AutoContrast", "equalize": "Equalize",
    "invert": "Invert",
}  # fmt: skip


def torchvision_operation(image: Tensor, operation: str, value: float) -> Tensor:
    """Apply torchvision's operation of that name, with the shears about the centre."""
    if operation.startswith("shear"):
        degrees = math.degrees(math.atan(value))
        shear = [degrees, 0.0] if operation == "shear_x" else [0.0, degrees]
        return TF.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, interpolation=InterpolationMode.BILINEAR)
    policy = RandAugment(interpolation=InterpolationMode.BILINEAR)
    return policy._apply_image_or_video_transform(image, THEIR_NAMES[operation], value, policy.interpolation, policy._fill)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("space", "theirs", "bins", "step"), [(USUAL, RandAugment, 31, 9), (WIDE, TrivialAugmentWide, 31, 7)])
def test_operation_equals_torchvision_at_the_value_of_its_table(
    space: Space, theirs: type, bins: int, step: int, operation: str, sign: int, floats: Tensor
) -> None:
    values, signed = theirs._AUGMENTATION_SPACE[THEIR_NAMES[operation]]
    assert signed == (operation in SIGNED)
    table = values(bins, *floats.shape[2:])
    level = step / (bins - 1) * (sign if signed else 1)
    value = 0.0 if table is None else float(table[step]) * (sign if signed else 1)
    ours = apply_operation(floats, operation, torch.full((len(floats),), level, dtype=torch.float64), space)
    expected = torch.stack([torchvision_operation(image, operation, value) for image in floats])
    torch.testing.assert_close(ours, expected, atol=3e-5, rtol=0)


def test_operations_are_randaugments() -> None:
    assert {THEIR_NAMES[operation] for operation in OPERATIONS} == set(RandAugment._AUGMENTATION_SPACE)
    assert {THEIR_NAMES[operation] for operation in OPERATIONS} == set(TrivialAugmentWide._AUGMENTATION_SPACE)


def test_autoaugment_uses_the_published_policy() -> None:
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10)._policies
    ours = [tuple((THEIR_NAMES[name], chance, level) for name, chance, level in pair) for pair in CIFAR10_POLICY]
    assert ours == [tuple((name, chance, level or 0) for name, chance, level in pair) for pair in theirs]


@pytest.mark.parametrize("policy", [randaugment, trivialaugment, autoaugment, augmix])
def test_policy_changes_samples_but_not_by_their_batch(policy, floats: Tensor) -> None:
    images = floats.repeat(8, 1, 1, 1)
    together = policy(images, Draws(1, 2, torch.arange(len(images))), 1.0)
    part = policy(images[10:14], Draws(1, 2, torch.arange(10, 14)), 1.0)
    torch.testing.assert_close(together[10:14], part, atol=1e-6, rtol=0)
    changed = (together - images).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert changed.float().mean() > 0.5
    assert together.min() >= 0
    assert together.max() <= 1


def test_autoaugment_pairs_are_chosen_equally_often() -> None:
    u = Draws(0, 0, torch.arange(5000)).uniform("autoaugment", 5)[:, 0]
    counts = torch.bincount((u * len(CIFAR10_POLICY)).long(), minlength=25)
    assert counts.min() > 150
    assert counts.max() < 250


def test_augmix_of_a_constant_image_under_geometry_is_a_mean_of_chains(floats: Tensor) -> None:
    """Weights sum to one: a white image can only get darker, never brighter than white."""
    white = torch.ones_like(floats)
    mixed = augmix(white, Draws(3, 1, torch.arange(len(white))), 1.0)
    assert mixed.max() <= 1 + 1e-6
    assert mixed.amax(dim=(1, 2, 3)).min() > 0.3
