"""The results of `device_steps.py` as files: the numbers as JSON, tables for a reader as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_ways import WAYS

RESULTS = Path(__file__).parent / "results"
NAME = "device_steps.json"
RECORD = (
    "Published, for comparison: airbench94 trains to 94 % on CIFAR-10 in 2.59 s on one A100, 0.29 PFLOP in all, 36 % of that "
    "device's peak (github.com/KellerJordan/cifar10-airbench). That is a whole run of 8 epochs, its data included; the seconds "
    "below are steps alone, of one epoch of one of K trials."
)
HEAD = ("K", "way", "ms a step of all K", "images/s", "ratio to (a)", "peak GB", "epoch s", "floor / epoch", "traffic / epoch")
Report = dict[str, Any]
"""Of one net in one precision: command, machine, limits, work and a row for each K and way."""


def read(folder: Path) -> dict[str, Report]:
    """Return what an earlier run has written."""
    path = folder / NAME
    found: dict[str, Report] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(folder: Path, reports: Mapping[str, Report]) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text(json.dumps(reports, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(reports))


def markdown(reports: Mapping[str, Report]) -> str:
    """Return the reports as tables, the fastest way of each K in bold."""
    lines = [RECORD, "", "Ways: " + "; ".join(f"({letter}) {said}" for letter, (said, _) in WAYS.items()) + ".", ""]
    for name, report in reports.items():
        lines += [f"## {name}", "", *facts(report), "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        lines += [*_table(report["rows"]), "", *_refusals(report["rows"]), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def line(row: Mapping[str, Any]) -> str:
    """Return a row in words."""
    said = f"K = {row['slots']}, ({row['way']}) {WAYS[row['way']][0]}"
    if "not_possible" in row:
        return f"{said}: not possible: {row['not_possible']}"
    ms, rate, ratio, _, epoch, share, _ = _cells(row)
    return f"{said}: {ms} ms, {rate} images/s, {ratio or 'no'} ratio, epoch {epoch} s, floor / epoch {share}"


def facts(report: Report) -> list[str]:
    """Return what a net's rows are to be read with: where they were measured, and the limits beside the counted work."""
    host, limit, work = report["machine"], report["limits"], report["work"]
    where = host["device"] if host["cuda"] else f"{host['device']}, {host['gpu']}"
    return [
        f"{report['net']}, {report['memory_format']}. `{report['command']}`, {where}, torch {host['torch']}, "
        f"load {host['load']} at the start.",
        f"Limits measured: {limit['flop_per_s'] / 1e12:.3g} TFLOP/s in {limit['arithmetic']}, "
        f"{limit['bytes_per_s'] / 1e9:.4g} GB/s. An image costs {work['flop_an_image'] / 1e9:.4g} GFLOP and, step by step, "
        f"{work['bytes_an_image'] / 1e6:.4g} MB of traffic: an epoch's floor is {work['floor_s']:.3g} s of FLOPs; "
        f"its traffic, unfused and from memory, takes {work['traffic_s']:.3g} s.",
    ]


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "ms" in row:
            mark = "**" if row is _fastest(rows, row["slots"]) else ""
            yield "| " + " | ".join((str(row["slots"]), f"{mark}({row['way']}){mark}", *_cells(row))) + " |"


def _fastest(rows: list[dict[str, Any]], slots: int) -> dict[str, Any]:
    """Return the row of the highest ratio, which a device that warms up in between moves less than times."""
    timed = [row for row in rows if row["slots"] == slots and "ms" in row]
    return max(timed, key=lambda row: (row["ratio"] or 0.0, -row["ms"]))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    peak, ratio = row["peak_bytes"], row["ratio"]
    return (
        f"{row['ms']:.3f}",
        f"{row['images_per_s']:,.0f}",
        "" if ratio is None else f"{ratio:.2f}x",
        "" if peak is None else f"{peak / 1e9:.2f}",
        f"{row['epoch_s']:.4g}",
        f"{row['floor_share']:.1%}",
        f"{row['traffic_share']:.1%}",
    )


def _refusals(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each way and reason that it was not possible, with the Ks."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "not_possible" in row:
            found.setdefault((row["way"], row["not_possible"]), []).append(str(row["slots"]))
    for (way, reason), slots in found.items():
        yield f"- ({way}) {WAYS[way][0]}, K = {', '.join(slots)}: {reason}."
