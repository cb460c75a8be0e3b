"""Figures of trials and searches, each a pure function from data to a matplotlib Figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SCALE,
    empty_figure,
    label_ticks,
    new_figure,
    save_figure,
    shorten,
    whole_ticks,
)
from orchestrator.report.ensemble_plots import accuracy_diversity, disagreement_map, ensemble_bars, reliability_diagram
from orchestrator.store.records import MemberRecord, mode_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_diversity", "best_so_far", "confusion_matrix", "disagreement_map", "ensemble_bars", "knob_importance",
    "learning_curves", "parallel_coordinates", "reliability_diagram", "save_figure",
]  # fmt: skip

PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("train/loss", "val/loss", "val/log_loss")),
    ("accuracy", ("train/accuracy", "val/accuracy", "val/balanced_accuracy")),
    ("error", ("train/rmse", "val/rmse", "val/mae")),
    ("calibration error (ECE)", ("train/ece", "val/ece")),
    ("learning rate", ("lr",)),
)
"""What stands on one panel of the learning curves, as far as it was measured."""
LINES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^"))
ANNOTATED = 20
LOG_SPAN = 20.0
"""Positive knobs that vary by more than this factor get a logarithmic axis."""


def learning_curves(history: Sequence[Mapping[str, float]], *, best_epoch: int = 0, title: str = "") -> Figure:
    """Return curves by epoch; `history` holds the metrics of epochs 1, 2, ... (or of its own "epoch"), the best one marked."""
    panels = [(label, [k for k in keys if any(k in row for row in history)]) for label, keys in PANELS]
    panels = [(label, keys) for label, keys in panels if keys]
    if not panels:
        return empty_figure("no epoch was finished")
    epochs = [float(row.get("epoch", number)) for number, row in enumerate(history, start=1)]
    figure, all_axes = new_figure(len(panels), width=4.0, height=3.4)
    for axes, (label, keys) in zip(all_axes, panels, strict=True):
        for (colour, line, marker), key in zip(LINES, keys, strict=False):
            values = [float(row.get(key, math.nan)) for row in history]
            axes.plot(epochs, values, color=colour, linestyle=line, marker=marker, markersize=3, label=key)
        if best_epoch:
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle="-.", label=f"best epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        whole_ticks(axes)
        axes.legend(fontsize="small", frameon=False)
    figure.suptitle(shorten(title, 100))
    return figure


def confusion_matrix(counts: NDArray[np.integer[Any]], classes: Sequence[str], *, title: str = "") -> Figure:
    """Return counts [C, C] (row: true class, column: predicted), coloured by the share of the true class."""
    counts = np.asarray(counts)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion matrix: counts {counts.shape} for {len(classes)} classes")
    side = min(12.0, 3.2 + 0.32 * len(classes))
    figure, (axes,) = new_figure(width=side + 0.8, height=side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=SCALE, vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if len(classes) <= ANNOTATED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = BLACK if shares[row, column] > 0.5 else "white"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize="small")
    label_ticks(axes, "x", classes)
    label_ticks(axes, "y", classes)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.suptitle(shorten(title, 60))
    return figure


def best_so_far(scores: Sequence[float], *, metric: str = "accuracy", baseline: float | None = None) -> Figure:
    """Return each trial's best score in the order they were made, and the best of all until then (NaN: no score)."""
    values = np.asarray(scores, dtype=float)
    if not np.isfinite(values).any():
        return empty_figure("no trial has a score yet")
    best = np.fmin.accumulate(values) if mode_of(metric) == "min" else np.fmax.accumulate(values)
    trials = np.arange(1, len(values) + 1)
    figure, (axes,) = new_figure(width=6.5)
    axes.scatter(trials, values, s=18, color=ORANGE, label="one trial", zorder=3)
    axes.step(trials, best, where="post", color=BLUE, label="best so far")
    if baseline is not None and math.isfinite(baseline):
        axes.axhline(baseline, color=GREY, linestyle="--", linewidth=1, label="baseline")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {metric}, best epoch")
    whole_ticks(axes)
    axes.legend(frameon=False)
    return figure


def parallel_coordinates(records: Sequence[MemberRecord], *, metric: str = "accuracy", names: Sequence[str] = ()) -> Figure:
    """Return one line a trial over its knobs (`names`, or all that vary), coloured by its score; an absent knob ends at "-"."""
    rows = [record for record in records if math.isfinite(record.score(metric))]
    knobs = [name for name in (names or _varying(rows)) if any(name in row.config for row in rows)]
    if len(rows) < 2 or not knobs:
        return empty_figure("fewer than two trials to compare")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns = [_axis([row.config.get(name) for row in rows]) for name in knobs]
    scores = np.array([row.score(metric) for row in rows])
    colours = ScalarMappable(Normalize(scores.min(), scores.max() if np.ptp(scores) else scores.min() + 1e-9), SCALE)
    figure, (axes,) = new_figure(width=max(6.5, 1.25 * len(knobs) + 2), height=4.6)
    heights = np.array([heights for heights, _ in columns])
    for line in np.argsort(scores if mode_of(metric) == "max" else -scores, kind="stable"):
        axes.plot(range(len(knobs)), heights[:, line], color=colours.to_rgba(scores[line]), linewidth=1.4, alpha=0.9)
    for position, (_, ticks) in enumerate(columns):
        _draw_scale(axes, position, ticks)
    label_ticks(axes, "x", knobs)
    axes.set_yticks([])
    axes.set_ylabel("value of each knob, low to high")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("knob")
    figure.colorbar(colours, ax=axes, label=f"validation {metric}")
    return figure


def knob_importance(names: Sequence[str], values: Sequence[float], *, title: str = "") -> Figure:
    """Return bars of each knob's share of the importance (they sum to one), the largest on top."""
    if not names:
        return empty_figure(title or "too few finished trials to tell")
    order = sorted(range(len(names)), key=lambda i: values[i])
    figure, (axes,) = new_figure(width=6.0, height=max(2.2, 0.32 * len(names) + 1.2))
    bars = axes.barh(range(len(order)), [values[i] for i in order], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
    label_ticks(axes, "y", [names[i] for i in order])
    axes.set_xlabel("share of importance (PED-ANOVA)")
    axes.set_ylabel("knob")
    axes.margins(x=0.12)
    figure.suptitle(shorten(title, 80))
    return figure


def _varying(records: Sequence[MemberRecord]) -> list[str]:
    names = dict.fromkeys(name for record in records for name in record.config if name not in ("seed", "row_seed"))
    return [name for name in names if len({str(record.config.get(name)) for record in records}) > 1]


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return each value's height in [0, 1] (below: absent) and the named ticks of the axis."""
    present = [value for value in values if value is not None]
    absent = [(-0.12, "-")] if len(present) < len(values) else []
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        low, high = float(min(present)), float(max(present))
        log = low > 0 and high / low > LOG_SPAN
        span = (math.log(high / low) if log else high - low) or 1.0
        heights = [-0.12 if v is None else (math.log(v / low) if log else v - low) / span for v in values]
        return heights, [*absent, (0.0, f"{low:.4g}"), *([(1.0, f"{high:.4g}")] if high > low else [])]
    names = sorted({str(value) for value in present})
    steps = {name: number / max(len(names) - 1, 1) for number, name in enumerate(names)}
    return [-0.12 if v is None else steps[str(v)] for v in values], [*absent, *((steps[name], name) for name in names)]


def _draw_scale(axes: Axes, position: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(position, color=GREY, linewidth=0.8, zorder=0)
    for height, name in ticks:
        text = axes.text(position + 0.04, height, shorten(name, 14), fontsize="x-small", va="center")
        text.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5})
