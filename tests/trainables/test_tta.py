"""Views keep shapes and are what their names say; their mean is the mean."""

from __future__ import annotations

import pytest
import torch

from trainables.config import CHOICES
from trainables.tta import VIEWS, averaged, crop, flip, shrink, views

IMAGES = torch.rand(3, 2, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CHOICES["tta"])
def test_every_view_is_deterministic_and_keeps_the_shape_and_the_range(name: str) -> None:
    for view in views(name):
        found = view(IMAGES)
        assert found.shape == IMAGES.shape
        assert found.min() >= 0
        assert found.max() <= 1
        assert torch.equal(found, view(IMAGES))
    assert torch.equal(views(name)[0](IMAGES), IMAGES)


def test_the_knobs_words_are_the_tables() -> None:
    assert set(VIEWS) == set(CHOICES["tta"])
    assert [len(VIEWS[name]) for name in ("none", "flip", "crops", "scales", "full")] == [1, 2, 6, 3, 14]
    with pytest.raises(ValueError, match=r"train\.tta: got 'rotate'"):
        views("rotate")


def test_flip_mirrors_columns() -> None:
    assert torch.equal(flip(IMAGES), IMAGES[..., torch.arange(23, -1, -1)])


def test_a_crop_enlarges_its_corner_and_shrinking_draws_the_border_in() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    left, right = crop(ramp, 0.5, 0.0), crop(ramp, 0.5, 1.0)
    assert left[..., 0].max() < 1e-6
    assert left[..., -1].max() == pytest.approx(13 / 15, abs=0.01)
    assert right[..., 0].min() == pytest.approx(2 / 15, abs=0.01)
    assert right[..., -1].min() == pytest.approx(1.0, abs=1e-6)
    small = shrink(ramp)
    assert small[0, 0, 0, 1] == pytest.approx(0.0, abs=0.02)
    assert (small[0, 0, 0].diff() > 0).sum() >= 12


def test_all_views_of_a_flat_image_are_the_image() -> None:
    flat = torch.full((1, 3, 9, 9), 0.3)
    for view in VIEWS["full"]:
        torch.testing.assert_close(view(flat), flat)


def test_probabilities_are_averaged_over_the_views() -> None:
    def predict(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[..., 0].mean((1, 2)), images[..., -1].mean((1, 2))], dim=1)

    expected = (predict(IMAGES) + predict(IMAGES.flip(-1))) / 2
    torch.testing.assert_close(averaged(predict, IMAGES, "flip"), expected)
    torch.testing.assert_close(averaged(predict, IMAGES, "flip"), averaged(predict, IMAGES.flip(-1), "flip"))
    assert torch.equal(averaged(predict, IMAGES, "none"), predict(IMAGES))
