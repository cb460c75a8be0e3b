"""Each change against torchvision, scipy or a closed form, and models built to lack exactly one invariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional as TF

from orchestrator.diagnosis.probe import PROBES, changed, measure

BY_NAME = {probe.name: probe for probe in PROBES}
RIGHT, LEFT = np.array([0.9]), np.array([0.1])


def smooth(seed: int, n: int = 1, side: int = 32, channels: int = 3) -> np.ndarray:
    """Smooth random images, so that ways of interpolation hardly differ."""
    raw = gaussian_filter(np.random.default_rng(seed).random((n, side, side, channels)), (0, 3, 3, 0), mode="wrap")
    low, high = raw.min((1, 2, 3), keepdims=True), raw.max((1, 2, 3), keepdims=True)
    return ((raw - low) / (high - low) * 200 + 20).astype(np.uint8)


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("draw", "angle"), [(RIGHT, -15), (LEFT, 15)])
def test_turns_as_torchvision_does(draw: np.ndarray, angle: int) -> None:
    image = smooth(0)
    found = changed(BY_NAME["rotated"], image, draw).astype(int)
    expected = TF.rotate(tensor(image), angle, interpolation=TF.InterpolationMode.BILINEAR).permute(0, 2, 3, 1).numpy()
    inner = (slice(None), slice(9, -9), slice(9, -9))
    assert np.abs(found[inner] - expected[inner]).max() <= 2


def test_moves_an_eighth_to_the_right() -> None:
    image = smooth(1)
    found = changed(BY_NAME["shifted"], image, np.array([0.0]))
    assert np.abs(found[:, :, 4:].astype(int) - image[:, :, :-4]).max() <= 1


def test_scales_about_the_centre() -> None:
    image = np.zeros((1, 64, 64, 1), np.uint8)
    image[:, 16:48, 16:48] = 255
    assert math.sqrt((changed(BY_NAME["smaller"], image, RIGHT) > 127).sum()) == pytest.approx(24, abs=1)
    assert math.sqrt((changed(BY_NAME["cut off"], image, RIGHT) > 127).sum()) == pytest.approx(32 * 4 / 3, abs=1)


def test_turns_colours_about_the_grey_axis() -> None:
    grey = np.full((1, 4, 4, 3), 90, np.uint8)
    assert np.array_equal(changed(BY_NAME["colours"], grey, RIGHT), grey)
    red = np.zeros((1, 1, 1, 3), np.uint8) + np.array([180, 60, 60], np.uint8)
    there = changed(BY_NAME["colours"], red, RIGHT)[0, 0, 0].astype(float)
    assert there.sum() == pytest.approx(300, abs=2)
    centred, before = there - 100, np.array([80.0, -40.0, -40.0])
    angle = np.degrees(np.arccos(centred @ before / np.linalg.norm(centred) / np.linalg.norm(before)))
    assert angle == pytest.approx(30, abs=1)


def test_lights_and_contrast_by_hand() -> None:
    image = smooth(2)
    assert np.abs(changed(BY_NAME["lighting"], image, LEFT) - image * 0.7).max() <= 0.51
    mean = image.mean()
    assert np.abs(changed(BY_NAME["low contrast"], image, LEFT) - (mean + (image - mean) / 2)).max() <= 0.51


def test_blurs_as_scipy_does() -> None:
    image = np.random.default_rng(3).integers(0, 256, (1, 32, 32, 1), dtype=np.uint8)
    expected = gaussian_filter(image[0, :, :, 0].astype(float), 1.0, mode="mirror", truncate=3)
    assert np.abs(changed(BY_NAME["blurred"], image, RIGHT)[0, :, :, 0] - expected).max() <= 0.51


def test_noise_has_its_spread_and_depends_on_the_draw_alone() -> None:
    image = np.full((2, 64, 64, 1), 128, np.uint8)
    found = changed(BY_NAME["noisy"], image, np.array([0.25, 0.5])).astype(float)
    assert found.std() == pytest.approx(0.08 * 255, rel=0.05)
    assert np.array_equal(found[1:], changed(BY_NAME["noisy"], image[1:], np.array([0.5])))


def test_hides_one_square_of_a_third() -> None:
    image = np.zeros((50, 30, 30, 1), np.uint8)
    found = changed(BY_NAME["hidden part"], image, np.random.default_rng(0).random(50))
    assert ((found == 128).sum((1, 2, 3)) == 100).all()
    assert len(np.unique(found.reshape(50, -1), axis=0)) > 30


def test_mirrors() -> None:
    image = smooth(4, n=3)
    assert np.array_equal(changed(BY_NAME["mirrored"], image, np.zeros(3)), image[:, :, ::-1])


def by_brightness(images: np.ndarray) -> np.ndarray:
    """Tell dark from bright: bears everything but light."""
    bright = images.mean((1, 2, 3)) > 110
    return np.stack([~bright, bright], axis=1).astype(float)


def by_side(images: np.ndarray) -> np.ndarray:
    """Tell which half is brighter: a model that mirroring must break entirely."""
    half = images.shape[2] // 2
    right = images[:, :, half:].mean((1, 2, 3)) > images[:, :, :half].mean((1, 2, 3))
    return np.stack([~right, right], axis=1).astype(float)


def test_a_model_of_brightness_fails_under_other_light_only() -> None:
    levels = np.random.default_rng(5).choice([90, 130], 200)
    images = np.broadcast_to(levels[:, None, None, None], (200, 8, 8, 3)).astype(np.uint8)
    drops = measure(by_brightness, images, (levels > 110).astype(int), seed=0)
    assert drops[0].name == "lighting" and drops[0].drop > 0.3 and drops[0].low > 0
    assert all(drop.drop == 0 for drop in drops if drop.name not in ("lighting", "hidden part"))


def test_a_model_of_sides_fails_on_mirrored_images_entirely() -> None:
    images = smooth(6, n=300)
    labels = by_side(images).argmax(1)
    mirrored = next(drop for drop in measure(by_side, images, labels, seed=0) if drop.name == "mirrored")
    assert mirrored.accuracy < 0.05 and mirrored.drop > 0.95


def test_interval_is_the_paired_normal_one() -> None:
    images = smooth(7, n=100)
    labels = by_side(images).argmax(1)
    drop = next(d for d in measure(by_side, images, labels, seed=1) if d.name == "shifted")
    n, share = 100, drop.drop  # all right before, so the differences are a coin of that share
    spread = math.sqrt(share * (1 - share) / (n - 1))
    assert (drop.low, drop.high) == pytest.approx((share - 1.96 * spread, share + 1.96 * spread))


def test_same_seed_same_drops_and_no_colour_for_grey() -> None:
    images = smooth(8, n=40, channels=1)
    labels = by_side(images).argmax(1)
    first, second = (measure(by_side, images, labels, seed=3) for _ in range(2))
    assert first == second
    assert "colours" not in {drop.name for drop in first}
