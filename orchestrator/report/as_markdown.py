"""A report as Markdown: the same sections, figures as links into the run folder, nothing that renders as markup by accident."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.report.blocks import Block, Bullets, Cell, Commands, Details, Page, Picture, Section, Table, Text, shown

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def to_markdown(page: Page, folder: Path) -> str:
    """Return the whole page; pictures are linked relative to `folder`."""
    return "\n\n".join([f"# {plain(page.title)}", *(_section(section, folder) for section in page.sections)]) + "\n"


def plain(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _section(section: Section, folder: Path) -> str:
    return "\n\n".join([f"## {plain(section.title)}", *(_block(block, folder) for block in section.blocks)])


def _block(block: Block, folder: Path) -> str:
    match block:
        case Text(words, tone):
            return f"**{plain(words)}**" if tone else plain(words)
        case Bullets(lines):
            return "\n".join(f"- {plain(line)}" for line in lines)
        case Table(columns, rows):
            rule = "| --- " * len(columns) + "|"
            return "\n".join([_row(columns), rule, *map(_row, rows)])
        case Commands(lines):
            return _fenced("\n".join(lines), "sh")
        case Details(title, text):
            return f"{plain(title)}:\n\n{_fenced(text, '')}"
        case Picture(path, caption):
            return f"![{plain(caption)}](<{path.relative_to(folder).as_posix()}>)"


def _row(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(plain(shown(cell)) for cell in cells) + " |"


def _fenced(text: str, language: str) -> str:
    """Return a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
