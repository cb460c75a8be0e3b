"""What a report is made of, whatever it is printed as: sections of text, tables, pictures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

Cell = str | int | float | None


@dataclass(frozen=True)
class Text:
    """One paragraph; `tone` is "", "good" or "careful"."""

    words: str
    tone: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of short lines."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Columns and rows; `strong` is the index of the row to stand out, if any."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    strong: int = -1


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Details:
    """Long plain text that opens on demand."""

    title: str
    text: str


@dataclass(frozen=True)
class Picture:
    """An image file with its caption."""

    path: Path
    caption: str


Block = Text | Bullets | Table | Commands | Details | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block] = field(default=())


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    sections: Sequence[Section]


def shown(cell: Cell) -> str:
    """Return a cell as text: four decimals, nothing for None or NaN."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) < 1e4 else f"{cell:.4g}"
    return str(cell)
