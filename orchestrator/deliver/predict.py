"""Prediction with a bundle: files, folders and globs in, a row an image out, a bad image a counted row and no crash."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from orchestrator.deliver.runtime import BundleError, Runtime
from orchestrator.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
"""What counts as an image inside a folder; a file that is named itself is always tried."""
BATCH = 64
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that opens with one of these for a formula."""


def predict_images(bundle: Path | str | Runtime, paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """Return a row an image, in order: {"path", "class", "probability", "probabilities"}, for regression {"path", "value"}.

    `paths` are files, folders (searched to the bottom) and glob patterns. An image that cannot be read gives {"path", "error"}.
    Raises UserError for a bundle that was changed and for a path where nothing is.
    """
    runtime = bundle if isinstance(bundle, Runtime) else open_runtime(bundle)
    return [row for batch in _batches(find_images(paths)) for row in predict_batch(runtime, batch)]


def open_runtime(bundle: Path | str) -> Runtime:
    """Check and load a bundle; raises UserError."""
    try:
        return Runtime(bundle)
    except BundleError as error:
        raise UserError(str(error)) from error


def predict_batch(runtime: Runtime, batch: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the rows of a few images."""
    return [{"path": str(path), **answer} for path, answer in zip(batch, runtime.answers(batch), strict=True)]


def find_images(paths: Sequence[Path | str]) -> list[Path]:
    """Expand files, folders and glob patterns into image files, each once, in order; raises UserError where nothing is."""
    found: dict[Path, None] = {}
    for path in paths:
        matches = _expand(Path(path))
        if not matches:
            raise UserError(f"{path}: no image here; give image files, folders, or a quoted pattern like 'photos/*.jpg'")
        found.update(dict.fromkeys(matches))
    return list(found)


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        return [p for p in sorted(path.rglob("*")) if is_image(p.relative_to(path)) and p.is_file()]
    if path.exists():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 (absolute patterns)
    return [inner for match in matches for inner in _expand(match)]


def is_image(relative: Path) -> bool:
    """Return whether a file inside a folder counts as an image: a known suffix, and no hidden part in its path."""
    return relative.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in relative.parts)


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]


def print_rows(rows: Sequence[dict[str, Any]], *, style: str = "table", file: IO[str] | None = None) -> None:
    """Print rows to `file` (standard output): "json" one array, "csv" a column a class, "table" a line an image."""
    out = sys.stdout if file is None else file
    if style == "json":
        print(json.dumps(rows, indent=1), file=out)
    elif style == "csv":
        write_csv(rows, out)
    else:
        width = max((len(row["path"]) for row in rows), default=0)
        for row in rows:
            print(f"{row['path']:<{width}}  {in_words(row)}", file=out)
        failed = sum("error" in row for row in rows)
        if failed:
            print(f"{failed} of {len(rows)} could not be read", file=out)


def in_words(row: Mapping[str, Any]) -> str:
    """Return an answer as one line of text, with the three most probable classes."""
    if "error" in row:
        return f"error: {row['error']}"
    if "value" in row:
        return f"{row['value']:.6g}"
    best = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:3]
    return "  ".join(f"{name} {p:.4f}" for name, p in best)


def write_csv(rows: Sequence[Mapping[str, Any]], file: IO[str]) -> None:
    """Write rows as CSV, one column a class; text that a spreadsheet would run as a formula gets a leading quote."""
    flat = [
        {name: value for name, value in row.items() if name != "probabilities"}
        | {f"p({name})": value for name, value in row.get("probabilities", {}).items()}
        for row in rows
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([inert(name) for name in names])
    writer.writerows([[inert(row.get(name)) for name in names] for row in flat])


def inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
