"""A report as one HTML file: everything inline and escaped, no script, readable in light and dark."""

from __future__ import annotations

import base64
import re
from html import escape

from orchestrator.report.blocks import Block, Bullets, Cell, Commands, Details, Page, Picture, Section, Table, Text, shown

PICTURE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
FIGURES = re.compile(r"[-+\d.,e\[\] ]+")
"""Text of numbers alone, such as an interval: it stays on one line."""
SHORT = 32
"""Characters that stay on one line."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6778; --line: #dfe3ea; --paper: #ffffff; --panel: #f5f7fa;
  --good: #1a7f4b; --careful: #a15c00; --accent: #2f5f9e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa5b6; --line: #333c4a; --paper: #14181f;
  --panel: #1d232d; --good: #5ecb93; --careful: #e5a54b; --accent: #86b4ef; } }
body { margin: 0 auto; max-width: 80rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; color: var(--accent); }
p { margin: .5rem 0; } ul { padding-left: 1.2rem; margin: .5rem 0; overflow-wrap: anywhere; }
p.good, p.careful { padding: .7rem 1rem; border-left: 4px solid; background: var(--panel); border-radius: 0 4px 4px 0; }
p.good { border-color: var(--good); } p.careful { border-color: var(--careful); }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; font-size: .92em; }
th, td { padding: .32rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number, td.figures { font-variant-numeric: tabular-nums; white-space: nowrap; } td.number { text-align: right; }
td.short { white-space: nowrap; } td.long { min-width: 15rem; overflow-wrap: anywhere; }
tr.strong td { font-weight: 650; background: var(--panel); }
pre { background: var(--panel); padding: .8rem 1rem; border-radius: 4px; overflow-x: auto; font-size: .88em; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9em; margin-top: .3rem; }
img { max-width: 100%; background: #ffffff; border: 1px solid var(--line); border-radius: 4px; }
summary { cursor: pointer; color: var(--soft); }
"""


def to_html(page: Page) -> str:
    """Return the whole page."""
    body = "\n".join(_section(section) for section in page.sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(page.title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    return "\n".join([f"<section>\n<h2>{escape(section.title)}</h2>", *map(_block, section.blocks), "</section>"])


def _block(block: Block) -> str:
    match block:
        case Text(words, tone):
            return f'<p class="{escape(tone)}">{escape(words)}</p>' if tone else f"<p>{escape(words)}</p>"
        case Bullets(lines):
            return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
        case Table():
            return _table(block)
        case Commands(lines):
            return "<pre>" + escape("\n".join(lines)) + "</pre>"
        case Details(title, text):
            return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        case Picture():
            return _picture(block)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join(
        f"<tr class='{'strong' if place == table.strong else ''}'>{''.join(map(_cell, row))}</tr>"
        for place, row in enumerate(table.rows)
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _cell(cell: Cell) -> str:
    return f'<td class="{_kind(cell)}">{escape(shown(cell))}</td>'


def _kind(cell: Cell) -> str:
    """Return how a cell is laid out: numbers and short text on one line, long text in a column wide enough to read."""
    if isinstance(cell, int | float):
        return "number"
    text = shown(cell)
    return "figures" if FIGURES.fullmatch(text) else "short" if len(text) <= SHORT else "long"


def _picture(picture: Picture) -> str:
    kind = PICTURE_TYPES[picture.path.suffix.lower()]
    data = base64.b64encode(picture.path.read_bytes()).decode()
    caption = escape(picture.caption)
    return f'<figure><img src="data:{kind};base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
