"""Test-time augmentation: fixed views of an image batch as pure functions, and the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

View = Callable[[Tensor], Tensor]
"""Maps images [B, C, H, W] to images of the same shape."""

CROP = 0.875
"""Side of a crop, and of a zoom, as a share of the image's."""


def identity(images: Tensor) -> Tensor:
    """Return the images as they are."""
    return images


def flip(images: Tensor) -> Tensor:
    """Mirror left to right."""
    return images.flip(-1)


def crop(images: Tensor, vertical: float, horizontal: float) -> Tensor:
    """Cut a window of `CROP` of each side, placed at 0 (top, left) to 1 (bottom, right), and scale it back up."""
    height, width = images.shape[-2:]
    high, wide = max(1, round(height * CROP)), max(1, round(width * CROP))
    top, left = round((height - high) * vertical), round((width - wide) * horizontal)
    window = images[..., top : top + high, left : left + wide]
    return F.interpolate(window, size=(height, width), mode="bilinear", align_corners=False)


def shrink(images: Tensor) -> Tensor:
    """Zoom out by `CROP`: pad with the border's pixels, then scale down."""
    height, width = images.shape[-2:]
    up, side = round(height * (1 / CROP - 1) / 2), round(width * (1 / CROP - 1) / 2)
    padded = F.pad(images, (side, side, up, up), mode="replicate")
    return F.interpolate(padded, size=(height, width), mode="bilinear", align_corners=False, antialias=False)


def _window(vertical: float, horizontal: float) -> View:
    return lambda images: crop(images, vertical, horizontal)


_CORNERS: tuple[View, ...] = tuple(_window(v, h) for v in (0.0, 1.0) for h in (0.0, 1.0))
_CENTRE: View = _window(0.5, 0.5)


def _mirrored(chosen: tuple[View, ...]) -> tuple[View, ...]:
    return (*chosen, *((lambda images, view=view: view(flip(images))) for view in chosen))


VIEWS: dict[str, tuple[View, ...]] = {
    "none": (identity,),
    "flip": (identity, flip),
    "crops": (identity, *_CORNERS, _CENTRE),
    "scales": (identity, _CENTRE, shrink),
    "full": _mirrored((identity, *_CORNERS, _CENTRE, shrink)),
}
"""name -> its views, the plain one first."""


def views(name: str) -> tuple[View, ...]:
    """Return the views of that name; raises ValueError listing the known ones."""
    if name not in VIEWS:
        raise ValueError(f"train.tta: got {name!r}, allowed: {', '.join(VIEWS)}")
    return VIEWS[name]


def averaged(predict: Callable[[Tensor], Tensor], images: Tensor, name: str) -> Tensor:
    """Return the mean over the named views of `predict(view(images))`, predict giving probabilities [B, C].

    All views go through `predict` as one batch, so that an exported graph holds the network once.
    """
    chosen = views(name)
    if len(chosen) == 1:
        return predict(chosen[0](images))
    found = predict(torch.cat([view(images) for view in chosen]))
    return found.reshape(len(chosen), -1, found.shape[-1]).mean(dim=0)
