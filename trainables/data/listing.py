"""What a source finds before anything is decoded or split: rows with ids, targets, given splits, and files or arrays."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]
"""(what is done, done so far, of how many)."""

SPLIT_WORDS: dict[str, str] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folder names and CSV words that name a split."""


@dataclass(frozen=True)
class Listing:
    """Rows of a source, either as files to decode or as decoded uint8 [N, H, W, C] images."""

    ids: tuple[str, ...]
    targets: NDArray[np.int64] | NDArray[np.float64]
    given: tuple[str, ...]
    """"train", "val" or "test" a row as the source says, or "" where it says nothing."""
    classes: tuple[str, ...]
    files: tuple[Path, ...] = ()
    images: NDArray[np.uint8] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, bad: Mapping[int, str]) -> Listing:
        """Return the other rows, with these among the skipped, each for its reason."""
        skipped = ((self.ids[row], reason) for row, reason in bad.items())
        kept = self.take([row for row in range(len(self)) if row not in bad])
        return replace(kept, skipped=(*self.skipped, *skipped))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Listing:
        """Return the rows given, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            targets=self.targets[index],
            given=tuple(self.given[i] for i in index),
            files=tuple(self.files[i] for i in index) if self.files else (),
            images=self.images if self.images is None else self.images[index],
        )


def order_classes(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Return class names in index order (numbers by value, else by name); raises ValueError for twins and blanks."""
    unique = sorted(set(names))
    seen: dict[str, str] = {}
    for name in unique:
        if not name.strip() or any(unicodedata.category(letter).startswith("C") for letter in name):
            raise ValueError(f"data.source: {where}: class name {name!r} is empty or holds control characters; rename it")
        twin = seen.setdefault(unicodedata.normalize("NFC", name).strip().casefold(), name)
        if twin != name:
            raise ValueError(
                f"data.source: {where}: classes {twin!r} and {name!r} differ only in case, spaces or accents; merge them"
            )
    if len(unique) < 2:
        raise ValueError(f"data.source: {where}: found {len(unique)} class(es) ({', '.join(unique)}), at least 2 are needed")
    return tuple(sorted(unique, key=int) if all(name.isdecimal() for name in unique) else unique)


def stat_signature(paths: Iterable[Path]) -> str:
    """Return a text that changes when any of the files does (size, times), without reading them."""
    parts = []
    for path in sorted(paths):
        if path.is_file():
            info = path.stat()
            parts.append(f"{path}|{info.st_size}|{info.st_mtime_ns}|{info.st_ctime_ns}")
    return "\n".join(parts)
