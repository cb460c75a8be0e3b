"""Two members side by side: the images on which they differ, as a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.canvas import empty_figure, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4


@dataclass(frozen=True)
class Contested:
    """One image that two members label differently: uint8 [H, W, C], what it is, and (class, probability) of each."""

    image: NDArray[np.uint8]
    truth: str
    first: tuple[str, float]
    second: tuple[str, float]


def contested_images(names: tuple[str, str], images: Sequence[Contested]) -> Figure:
    """Return the images with what each of the two says; a tick marks who is right."""
    if not images:
        return empty_figure("the two members agree on every image")
    from matplotlib.figure import Figure

    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 2.5 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{shorten(names[0])} (above) and {shorten(names[1])} (below) differ", fontsize="medium")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, shown in zip(grid.flat, images, strict=False):
        picture = shown.image[..., 0] if shown.image.shape[-1] == 1 else shown.image
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        lines = [f"{_mark(name, shown.truth)} {shorten(name, 16)} {share:.2f}" for name, share in (shown.first, shown.second)]
        axes.set_title("\n".join([f"is {shorten(shown.truth, 16)}", *lines]), fontsize="x-small")
    return figure


def _mark(name: str, truth: str) -> str:
    return "✓" if name == truth else "✗"
