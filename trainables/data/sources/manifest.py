"""A CSV manifest with the columns path, label and optionally split; paths are confined to the manifest's own folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from trainables.data.dataset import DataConfig
from trainables.data.listing import SPLIT_WORDS, Listing, Progress, order_classes, stat_signature


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


def signature(config: DataConfig) -> str:
    """Return a text that changes with the manifest or any file it names."""
    manifest = _manifest(config)
    return stat_signature([manifest, *(manifest.parent / row.path for row in _rows(manifest))])


def read(config: DataConfig, progress: Progress | None = None) -> Listing:
    """List the rows of `csv:PATH`; raises ValueError with the line of what does not hold."""
    manifest = _manifest(config)
    rows = list(_rows(manifest))
    root = manifest.parent.resolve()
    kept: list[_Row] = []
    skipped: list[tuple[str, str]] = []
    for row in rows:
        if (manifest.parent / row.path).resolve().is_relative_to(root):
            kept.append(row)
        else:
            skipped.append((row.path, "link that leaves the manifest's folder"))
    if progress:
        progress("read manifest", len(rows), len(rows))
    targets, classes = _targets(kept, manifest, regression=config.task == "regression")
    return Listing(
        ids=tuple(row.path for row in kept),
        targets=targets,
        given=tuple(row.split for row in kept),
        classes=classes,
        files=tuple(manifest.parent / row.path for row in kept),
        skipped=tuple(skipped),
    )


def _manifest(config: DataConfig) -> Path:
    text = config.source.partition(":")[2]
    path = Path(text).expanduser().absolute()
    if not text or not path.is_file():
        raise ValueError(
            f"data.source: CSV file {text!r} is not there (looked at {path}); it needs the columns path,label[,split]"
        )
    return path


def _rows(manifest: Path) -> Iterator[_Row]:
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            missing = [name for name in ("path", "label") if name not in names]
            if missing:
                raise ValueError(f"{manifest}: column {' and '.join(missing)} missing; found: {', '.join(names) or 'none'}")
            reader.fieldnames = names
            seen: set[str] = set()
            for values in reader:
                row = _row(values, reader.line_num, manifest)
                if row.path in seen:
                    raise ValueError(f"{manifest}:{row.line}: path {row.path!r} appears twice")
                seen.add(row.path)
                yield row
        except (csv.Error, UnicodeDecodeError) as fault:
            raise ValueError(f"{manifest}:{reader.line_num}: not readable as UTF-8 CSV: {fault}") from fault


def _row(values: dict[str, str], line: int, manifest: Path) -> _Row:
    path, label, split = ((values.get(name) or "").strip() for name in ("path", "label", "split"))
    where = f"{manifest}:{line}"
    if not path or not label:
        raise ValueError(f"{where}: path and label must not be empty, got path={path!r}, label={label!r}")
    pure = PurePosixPath(path.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in path or ":" in pure.parts[0]:
        raise ValueError(f"{where}: path {path!r} must be relative and stay inside the manifest's folder")
    if split and split.lower() not in SPLIT_WORDS:
        raise ValueError(f"{where}: split {split!r}, allowed: train, val, test or empty")
    return _Row(line, pure.as_posix(), label, SPLIT_WORDS[split.lower()] if split else "")


def _targets(
    rows: list[_Row], manifest: Path, *, regression: bool
) -> tuple[NDArray[np.int64] | NDArray[np.float64], tuple[str, ...]]:
    if regression:
        return np.array([_number(row, manifest) for row in rows], dtype=np.float64), ()
    classes = order_classes((row.label for row in rows), where=str(manifest))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[row.label] for row in rows], dtype=np.int64), classes


def _number(row: _Row, manifest: Path) -> float:
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{manifest}:{row.line}: label {row.label!r} is not a finite number, as data.task: regression needs")
    return value
