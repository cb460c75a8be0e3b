"""Arrays from files made elsewhere: .npy, .npz and .csv, each error with the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import UserError

ENDINGS = (".npy", ".npz", ".csv")
LABELS = "labels"
"""Stem of the file beside the members' that holds the true classes or values."""


def read_array(path: Path, key: str) -> NDArray[Any]:
    """Return the numbers in a file; raises UserError naming it."""
    try:
        if path.suffix == ".csv":
            return _csv(path)
        stored = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            array: NDArray[Any] = stored
        else:
            names = stored.files
            if key not in names and len(names) != 1:
                raise ValueError(f"holds the arrays {', '.join(names)}, expected {key!r} or one alone")
            array = stored[key if key in names else names[0]]
        if array.dtype.kind not in "fiu" or not array.size:
            raise ValueError(f"holds {array.dtype} {array.shape}, expected numbers")
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: {error}") from error
    return array


def _csv(path: Path) -> NDArray[np.float64]:
    lines = path.read_text().strip().splitlines()
    header = not all(_is_number(cell) for cell in lines[0].split(",")) if lines else False
    found = np.loadtxt(lines[int(header) :], delimiter=",", ndmin=2)
    return found if found.shape[1] > 1 else found[:, 0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
