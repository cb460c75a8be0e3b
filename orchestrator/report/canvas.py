"""The paper that figures are drawn on: no window, no global state, colours that a colour-blind reader tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
"""Okabe and Ito's palette."""
GREY = "#767676"
SCALE = "cividis"
"""One colour map for magnitudes: even in lightness, the same to every reader."""
DPI = 110
MAX_LABELS = 40


def new_figure(columns: int = 1, *, width: float = 5.0, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `columns` panels side by side, each `width` by `height` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def empty_figure(message: str) -> Figure:
    """Return a figure that says why there is nothing to see."""
    figure, (axes,) = new_figure()
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=GREY, wrap=True, transform=axes.transAxes)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG (folders made as needed), free the figure's memory, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    figure.clear()
    return path


def label_ticks(axes: Axes, axis: str, names: Sequence[str]) -> None:
    """Name the positions 0, 1, ... of an axis; of many names only some, and long ones shortened."""
    stride = -(-len(names) // MAX_LABELS)
    positions = list(range(0, len(names), max(stride, 1)))
    shown = [shorten(names[position]) for position in positions]
    if axis == "x":
        axes.set_xticks(positions, shown, rotation=45 if max(map(len, shown), default=0) > 2 else 0, ha="right")
    else:
        axes.set_yticks(positions, shown)


def whole_ticks(axes: Axes) -> None:
    """Let the horizontal axis count in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def shorten(name: str, limit: int = 22) -> str:
    """Return a name of at most `limit` characters; dollar signs are kept from being read as formulas."""
    return (name if len(name) <= limit else f"{name[: limit - 1]}…").replace("$", r"\$")
