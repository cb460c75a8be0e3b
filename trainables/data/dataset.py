"""The nouns of the data: a split of decoded uint8 images, and the three splits with what later stages must know of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageSet:
    """One split, decoded: images uint8 [N, H, W, C] (often a read-only memory map), targets [N] and a stable id a row."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64] | NDArray[np.float64]
    """Class indices (int64), or values (float64) for regression."""
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [N, H, W, C], got {self.images.dtype} {self.images.shape}")
        if not len(self.images) == len(self.targets) == len(self.ids):
            raise ValueError(f"lengths differ: {len(self.images)} images, {len(self.targets)} targets, {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> ImageSet:
        """Return the rows given, in that order (a copy of those rows alone)."""
        return ImageSet(self.images[rows], self.targets[rows], tuple(self.ids[i] for i in rows))


@dataclass(frozen=True)
class Splits:
    """Train, validation and test of one data set, with its classes, fingerprint, statistics and what was left out."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    """Names in index order; empty for regression."""
    fingerprint: str
    """12 hex digits over ids, targets, pixels' content and the split: members with another one never mix."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per-channel statistics of the training split in [0, 1]."""
    source: str = ""
    skipped: tuple[tuple[str, str], ...] = field(default=())
    """(file, reason) of every image left out."""
    notices: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return (height, width, channels)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def outputs(self) -> int:
        """Return the width of the model's head: number of classes, or 1 for regression."""
        return len(self.classes) or 1

    def part(self, split: str) -> ImageSet:
        """Return "train", "val" or "test"."""
        if split not in ("train", "val", "test"):
            raise ValueError(f"split: got {split!r}, allowed: train, val, test")
        found: ImageSet = getattr(self, split)
        return found


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and how they are split; the plain counterpart of an experiment's `data:` section."""

    source: str = "digits"
    """"digits", "folder:PATH", "csv:PATH", a torchvision name ("cifar10", ...) or "module:callable"."""
    root: str = ""
    """Folder of a torchvision data set."""
    download: bool = False
    task: str = "classification"
    image_size: int = 0
    """Side to which images are decoded (0: their own, where all share one)."""
    channels: int = 0
    """0: as the data (grey 1, colour 3); 1 or 3 to force."""
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    split_seed: int = 0
    limit: int = 0
    """Cap of train + validation rows (stratified, seeded; 0: all); a test split that is given stays whole."""
    min_per_class: int = 5
    max_bad_fraction: float = 0.1
    """More unreadable files than this fraction is an error, fewer are counted and named."""
    cache: str = "auto"
    """"auto", "memory", "disk" or "none" (decode each time: the DataLoader path)."""
    cache_dir: str = ""
    max_pixels: int = 50_000_000
    """A larger image is refused (decompression bombs)."""
