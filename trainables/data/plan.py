"""What will be decoded, settled before a single pixel is read: usable files, size, channels, class counts and splits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.dataset import DataConfig
from trainables.data.decode import BadImage, inspect_image
from trainables.data.listing import Listing, Progress
from trainables.data.split import assign

CHUNK = 256
"""Files inspected or decoded between two reports of progress."""

Head = tuple[int, int, int]
"""Height, width and channels of one file."""


@dataclass(frozen=True)
class Plan:
    """Rows in the order train, validation, test, how many of each, and the shape they will have."""

    listing: Listing
    """The rows in that order, without images."""
    images: NDArray[np.uint8] | None
    """Already decoded images of the source in its own order; `order` says which of them a row is."""
    order: NDArray[np.int64]
    sizes: tuple[int, int, int]
    shape: tuple[int, int, int]
    image_size: int
    """Side passed to the decoder; 0: all rows share their own size."""

    @property
    def nbytes(self) -> int:
        """Return the bytes of the decoded array."""
        return len(self.listing) * int(np.prod(self.shape))


def make_plan(listing: Listing, config: DataConfig, progress: Progress | None = None) -> Plan:
    """Inspect the files' headers, settle size and channels, check the classes, and assign the splits; raises ValueError."""
    if not len(listing):
        raise ValueError("data.source: not a single image found")
    notices: list[str] = []
    if listing.images is None:
        listing, heads = _inspect(listing, config, progress)
        size, channels = _settle(heads, config, notices)
        shape = (size, size, channels) if size else (heads[0][0], heads[0][1], channels)
    else:
        height, width, own_channels = listing.images.shape[1:]
        size = 0 if (height, width) == (config.image_size,) * 2 else config.image_size
        shape = (size or height, size or width, config.channels or own_channels)
    _check_counts(listing, config)
    found = assign(listing, config)
    order = np.concatenate([found.train, found.val, found.test])
    rows = replace(listing, images=None, notices=(*listing.notices, *notices, *found.notices)).take(order)
    return Plan(rows, listing.images, order, (len(found.train), len(found.val), len(found.test)), shape, size)


def check_bad(bad: list[tuple[str, str]], total: int, config: DataConfig) -> None:
    """Refuse a source of which more than `max_bad_fraction` cannot be read, naming the first files."""
    if len(bad) > config.max_bad_fraction * total:
        shown = "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
        raise ValueError(
            f"data.source: {len(bad)} of {total} images cannot be read, more than data.max_bad_fraction ="
            f" {config.max_bad_fraction}: {shown}"
        )


def _inspect(listing: Listing, config: DataConfig, progress: Progress | None) -> tuple[Listing, list[Head]]:
    def head(path: Path) -> Head | BadImage:
        try:
            return inspect_image(path, max_pixels=config.max_pixels)
        except BadImage as fault:
            return fault

    found: list[Head | BadImage] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(listing), CHUNK):
            found += pool.map(head, listing.files[start : start + CHUNK])
            if progress:
                progress("inspect files", len(found), len(listing))
    bad = {row: str(reason) for row, reason in enumerate(found) if isinstance(reason, BadImage)}
    check_bad([(listing.ids[row], reason) for row, reason in bad.items()], len(found), config)
    return listing.without(bad), [size for size in found if not isinstance(size, BadImage)]


def _settle(heads: list[Head], config: DataConfig, notices: list[str]) -> tuple[int, int]:
    """Return (side to decode to, or 0 for the files' own common size; channels)."""
    channels = config.channels or max(channels for _, _, channels in heads)
    sizes = {(height, width) for height, width, _ in heads}
    if config.image_size or len(sizes) == 1:
        return (0 if sizes == {(config.image_size,) * 2} else config.image_size), channels
    median = float(np.median([min(height, width) for height, width, _ in heads]))
    size = int(min(224, max(32, 32 * round(median / 32))))
    notices.append(
        f"images differ in size (median short side {median:.0f}): resized and centre-cropped to {size} x {size};"
        " data.image_size sets another"
    )
    return size, channels


def _check_counts(listing: Listing, config: DataConfig) -> None:
    """Refuse classes with too few images to train on."""
    if not listing.classes:
        return
    pool = np.array([split in ("", "train") for split in listing.given], dtype=bool)
    counts = np.bincount(listing.targets[pool].astype(np.int64), minlength=len(listing.classes))
    poor = [f"{name} ({count})" for name, count in zip(listing.classes, counts, strict=True) if count < config.min_per_class]
    if poor:
        raise ValueError(
            f"data.source: too few images in class {', '.join(poor)}; data.min_per_class is {config.min_per_class}: "
            "add images, delete the class's folder (or rows), or lower data.min_per_class (2 at least)"
        )
