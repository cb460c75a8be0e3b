"""Access to a pool of predictions: one member at a time, so that a memory-mapped bank never has to fit in memory.

Shape suffixes used in this package: M members of the pool, K chosen members, N rows (images), C classes.
Regression keeps the same shapes with C = 1.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Labels = NDArray[Any]
"""Class indices [N], or the targets of a regression."""
Predictions = NDArray[Any] | Sequence[NDArray[Any]]
"""An array [M, N, C], or a sequence of M arrays [N, C] (float16, float32 or float64; memory maps welcome)."""


@dataclass(frozen=True)
class Members:
    """M predictions of the same rows, read one at a time as float32 [N, C]."""

    source: Predictions
    indices: tuple[int, ...]
    rows: Ints | None = None

    @classmethod
    def of(cls, predictions: Predictions | Members) -> Members:
        """Wraps an array [M, N, C] or a sequence of arrays [N, C]; returns a `Members` as it is."""
        if isinstance(predictions, Members):
            return predictions
        return cls(predictions, tuple(range(len(predictions))))

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, member: int) -> NDArray[np.float32]:
        """A fresh float32 copy [N, C] of one member; the pages of a memory map are given back at once."""
        stored = self.source[self.indices[member]]
        picked = stored if self.rows is None else stored[self.rows]
        copied: NDArray[np.float32] = np.array(picked, dtype=np.float32)
        _release(stored)
        return copied

    def stack(self, members: Sequence[int]) -> NDArray[np.float32]:
        """Some members at once, [K, N, C]."""
        return np.stack([self.read(member) for member in members])

    def take_rows(self, rows: Ints) -> Members:
        """The same members on some of their rows."""
        return Members(self.source, self.indices, rows if self.rows is None else self.rows[rows])

    def take_members(self, members: Sequence[int]) -> Members:
        """Some of the members, in the order given."""
        return Members(self.source, tuple(self.indices[member] for member in members), self.rows)


def _release(stored: NDArray[Any]) -> None:
    """Tells the kernel that the pages of a memory map are not needed any more.

    Without it one pass over a 4 GB bank counts as 4 GB of resident memory. A copy-on-write map keeps its pages,
    since dropping them would lose what was written.
    """
    mapping = getattr(stored, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and getattr(stored, "mode", "c") != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
