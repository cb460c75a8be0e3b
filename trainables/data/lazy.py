"""Images that are decoded each time they are asked for: an array-like stand-in where no cache is wanted or fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.decode import decode_image


class LazyImages:
    """uint8 [N, H, W, C] by shape, dtype, length and indexing; an int decodes one, a slice or row numbers decode those."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, files: Sequence[Path], *, shape: tuple[int, int, int], image_size: int, max_pixels: int) -> None:
        self._files = tuple(files)
        self._image_size = image_size
        self._max_pixels = max_pixels
        self.shape = (len(self._files), *shape)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def nbytes(self) -> int:
        """Return what the decoded array would take."""
        return int(np.prod(self.shape))

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        if isinstance(index, int | np.integer):
            return self._decode(self._files[index])
        rows = np.arange(len(self))[index]
        decoded = [self._decode(self._files[row]) for row in rows]
        return np.stack(decoded) if decoded else np.empty((0, *self.shape[1:]), dtype=np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del copy  # decoding always makes a new array
        return self[:].astype(dtype or np.uint8, copy=False)

    def _decode(self, file: Path) -> NDArray[np.uint8]:
        try:
            image = decode_image(file, image_size=self._image_size, channels=self.shape[3], max_pixels=self._max_pixels)
        except ValueError as fault:
            raise ValueError(f"{file}: {fault} (it was readable when the data were checked)") from fault
        if image.shape != self.shape[1:]:
            raise ValueError(f"{file}: shape {image.shape}, expected {self.shape[1:]} (it changed since the data were checked)")
        return image
