"""What a student is trained towards in place of the labels: a teacher's answers for the training rows, from a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrainConfig


def teacher_of(config: TrainConfig, rows: int, outputs: int) -> NDArray[np.float32] | None:
    """Return what `config.teacher_file` holds for all training rows, probabilities [N, C] or values [N]; None without one.

    Raises ValueError for an array that is none such, or no file.
    """
    if not config.teacher_file:
        return None
    classes = config.task == "classification"
    try:
        found: NDArray[Any] = np.load(config.teacher_file, allow_pickle=False)
    except (OSError, EOFError) as error:
        raise ValueError(f"train.teacher_file: {config.teacher_file} cannot be read ({error})") from error
    shape = (rows, outputs) if classes else (rows,)
    if found.dtype.kind != "f" or found.shape != shape or not np.isfinite(found).all():
        raise ValueError(
            f"train.teacher_file: {config.teacher_file} holds {found.dtype} {found.shape}, expected finite floats {shape}"
        )
    if classes and (found.min() < 0 or np.abs(found.sum(axis=1) - 1).max() > 1e-3):
        raise ValueError(f"train.teacher_file: {config.teacher_file} holds rows that are no probabilities")
    return found.astype(np.float32)
