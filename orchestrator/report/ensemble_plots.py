"""Figures of ensembles, each a pure function from data to a matplotlib Figure: calibration, diversity, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.report.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SCALE,
    empty_figure,
    label_ticks,
    new_figure,
    shorten,
)
from orchestrator.store.records import mode_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", ":"), (RED, "D", "-."), (PURPLE, "v", "-"))


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int) -> NDArray[np.float64]:
    """Return rows (mean confidence, accuracy, count) of the bins ((k-1)/bins, k/bins] that hold any prediction."""
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    held = count > 0
    sums = [np.bincount(number, weights=values, minlength=bins)[held] for values in (confidence, correct)]
    return np.stack([sums[0] / count[held], sums[1] / count[held], count[held].astype(float)], axis=1)


def reliability_diagram(models: Mapping[str, tuple[ArrayLike, ArrayLike]], *, bins: int = 10) -> Figure:
    """Return accuracy against confidence for each named (confidence [N] of the predicted class, correct [N])."""
    if not models:
        return empty_figure("no predictions to judge")
    figure, (axes, histogram) = new_figure(2, width=4.8)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfectly calibrated")
    for index, (name, (confidence, correct)) in enumerate(models.items()):
        colour, marker, line = STYLES[index % len(STYLES)]
        rows = reliability_bins(confidence, correct, bins)
        ece = float(np.sum(rows[:, 2] * np.abs(rows[:, 0] - rows[:, 1])) / rows[:, 2].sum()) if len(rows) else 0.0
        axes.plot(rows[:, 0], rows[:, 1], color=colour, marker=marker, linestyle=line, label=f"{shorten(name)} (ECE {ece:.3f})")
        histogram.hist(
            np.asarray(confidence, dtype=float), bins=bins, range=(0, 1), histtype="step", color=colour, linestyle=line,
            linewidth=1.6, label=shorten(name),
        )  # fmt: skip
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    histogram.set(xlabel="confidence", ylabel="predictions", xlim=(0, 1))
    axes.legend(fontsize="small", frameon=False)
    histogram.legend(fontsize="small", frameon=False, loc="upper left")
    return figure


def accuracy_diversity(
    scores: Sequence[float], diversities: Sequence[float], chosen: Sequence[bool], *, metric: str = "accuracy",
    diversity: str = "mean disagreement with the others",
) -> Figure:  # fmt: skip
    """Return one point a member: how good it is against how much it differs; the ensemble's members stand out."""
    if not len(scores):
        return empty_figure("no members")
    figure, (axes,) = new_figure(width=5.5)
    picked = np.asarray(chosen, dtype=bool)
    x, y = np.asarray(diversities, dtype=float), np.asarray(scores, dtype=float)
    axes.scatter(x[~picked], y[~picked], s=28, facecolor="none", edgecolor=GREY, label="not chosen")
    axes.scatter(x[picked], y[picked], s=40, color=BLUE, marker="D", label="in the ensemble")
    axes.set_xlabel(diversity)
    axes.set_ylabel(f"validation {metric}")
    axes.legend(frameon=False)
    return figure


def disagreement_map(matrix: ArrayLike, names: Sequence[str]) -> Figure:
    """Return the share of images [M, M] on which two members predict different classes."""
    shares = np.asarray(matrix, dtype=float)
    if shares.shape != (len(names), len(names)):
        raise ValueError(f"disagreement: matrix {shares.shape} for {len(names)} members")
    if not len(names):
        return empty_figure("no members")
    side = min(12.0, 3.2 + 0.34 * len(names))
    figure, (axes,) = new_figure(width=side + 0.8, height=side)
    top = float(shares.max()) or 1.0
    image = axes.imshow(shares, cmap=SCALE, vmin=0, vmax=top)
    figure.colorbar(image, ax=axes, label="share of images on which they differ", shrink=0.8)
    if len(names) <= 12:
        for row, column in np.ndindex(*shares.shape):
            colour = BLACK if shares[row, column] > top / 2 else "white"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour, fontsize="x-small")
    label_ticks(axes, "x", names)
    label_ticks(axes, "y", names)
    axes.set_xlabel("member")
    axes.set_ylabel("member")
    return figure


def ensemble_bars(
    names: Sequence[str], values: Sequence[float], lows: Sequence[float], highs: Sequence[float], *, metric: str = "accuracy",
    highlight: str = "ensemble", split: str = "test",
) -> Figure:  # fmt: skip
    """Return the ensemble beside its controls, each a point with its interval [low, high]; `highlight` stands out."""
    if not names:
        return empty_figure("nothing was judged")
    figure, (axes,) = new_figure(width=6.0, height=max(2.4, 0.42 * len(names) + 1.2))
    for position, (name, value, low, high) in enumerate(zip(names, values, lows, highs, strict=True)):
        colour, marker = (BLUE, "D") if name == highlight else (GREY, "o")
        axes.plot([low, high], [position, position], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot([value], [position], color=colour, marker=marker, markersize=7)
        axes.annotate(
            f"{value:.4f}", (value, position), xytext=(0, 7), textcoords="offset points", ha="center", fontsize="small"
        )
    axes.set_ylim(len(names) - 0.4, -0.7)
    label_ticks(axes, "y", names)
    better = "lower" if mode_of(metric) == "min" else "higher"
    axes.set_xlabel(f"{split} {metric} with its interval ({better} is better)")
    axes.set_ylabel("model")
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    return figure
