"""How the gain grows with trials, images and slots: a figure of the rows that `throughput.py` has written.

Run: python benchmarks/growth.py        (writes benchmarks/results/growth.png)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from throughput import STEPS

RESULTS = Path(__file__).parent / "results"
IMAGES = {"fashion_5k": 5_000, "fashion_20k": 20_000, "fashion": 60_000}
Point = tuple[str, float, float]
"""A line's name, and where one of its points lies."""


def of_trials(report: Mapping[str, Any], case: str = "small") -> Iterator[Point]:
    """Yield each way's ratio of trials an hour by the number of trials."""
    for name, part in report.items():
        words = name.split(", ")
        if words[:2] == ["search", case]:
            for way, row in part["found"]["medians"].items():
                yield way, float(words[2].split()[0]), row["wall_ratio"]


def of_images(report: Mapping[str, Any]) -> Iterator[Point]:
    """Yield each way's ratio of trials an hour by the number of images, the largest search of each size."""
    for case, images in IMAGES.items():
        found = list(of_trials(report, case))
        most = max((trials for _, trials, _ in found), default=0)
        yield from ((way, float(images), ratio) for way, trials, ratio in found if trials == most)


def of_slots(report: Mapping[str, Any]) -> Iterator[Point]:
    """Yield each net's CPU seconds one after another over those as one array, by the number of slots."""
    for row in report.get(STEPS, {"found": []})["found"]:
        yield row["net"], float(row["slots"]), row["ratio"]


def drawn(report: Mapping[str, Any]) -> Figure:
    """Return the three curves side by side."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    panels = (
        ("trials (small CNN, 420 images)", "the plain way", of_trials(report)),
        ("images (Fashion-MNIST)", "the plain way", of_images(report)),
        ("slots", "one after another", of_slots(report)),
    )
    for axes, (title, reference, points) in zip(figure.subplots(1, 3), panels, strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, x, y in points:
            lines.setdefault(name, []).append((x, y))
        for name, line in lines.items():
            axes.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
        axes.set(xscale="log", xlabel=title, ylabel=f"times faster than {reference}")
        if lines:
            ticks = sorted({x for line in lines.values() for x, _ in line})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.legend(fontsize=8)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    return figure


def main() -> None:
    """Draw what throughput.json holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    drawn(json.loads((out / "throughput.json").read_text())).savefig(out / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
