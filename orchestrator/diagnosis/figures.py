"""Figures of a diagnosis: the worst predictions with their images, and what each probe costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6


def save_figures(found: Mapping[str, Any], images: NDArray[np.uint8], folder: Path) -> list[Path]:
    """Write the figures of what `diagnose` found as PNG files and return them; `images` are the validation split's."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"worst_predictions": worst_figure(found["worst"], images)}
    if found["probe"]:
        figures["probe"] = probe_figure(found["probe"])
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def worst_figure(rows: Sequence[Mapping[str, Any]], images: NDArray[np.uint8]) -> Figure:
    """Draw the images of the worst predictions, each with its true and predicted class (or value)."""
    from matplotlib.figure import Figure

    lines = max(1, -(-len(rows) // COLUMNS))
    figure = Figure(figsize=(1.7 * COLUMNS, 2.0 * lines + 0.4), layout="constrained")
    for place, row in enumerate(rows):
        axes = figure.add_subplot(lines, COLUMNS, place + 1)
        axes.imshow(images[row["row"]].squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(_caption(row), fontsize=7, parse_math=False)
        axes.set_axis_off()
    figure.suptitle("Worst predictions: true class (its probability), predicted class (its probability)", fontsize=9)
    return figure


def probe_figure(drops: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the accuracy that each change costs, with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 0.35 * len(drops) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(drops))[::-1]
    middle = np.array([drop["drop"] for drop in drops])
    reach = np.array([[drop["drop"] - drop["low"], drop["high"] - drop["drop"]] for drop in drops]).T
    axes.barh(places, middle, xerr=reach, color="#4c78a8", ecolor="#555555", capsize=2)
    axes.set_yticks(places, [drop["name"] for drop in drops])
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_xlabel("accuracy lost (95 % interval)")
    return figure


def _caption(row: Mapping[str, Any]) -> str:
    if "p_true" not in row:
        return f"true {row['true']:.4g}\nsaid {row['predicted']:.4g}"
    return f"{row['true'][:18]} ({row['p_true']:.2f})\nas {row['predicted'][:18]} ({row['p_predicted']:.2f})"
