"""What a data source holds, seen from its listing and a sample of image headers, before anything is decoded."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from trainables.data.listing import Listing

SAMPLE = 200
"""Headers read of a folder, evenly spread over its files."""


@dataclass(frozen=True)
class Look:
    """Counts, sizes and splits of a source; `counts` is empty where the target is a number."""

    source: str
    images: int
    counts: dict[str, int]
    given: dict[str, int] = field(default_factory=dict)
    """Images a split as the source itself divides them ("" where it does not say)."""
    side: int = 32
    """Median short side in pixels."""
    one_size: bool = True
    channels: int = 3
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def regression(self) -> bool:
        """Return whether the target is a number."""
        return not self.counts

    @property
    def per_class(self) -> float:
        """Return the median number of images a class (regression: of all images)."""
        return float(statistics.median(self.counts.values())) if self.counts else float(self.images)

    @property
    def imbalance(self) -> float:
        """Return the largest class over the smallest."""
        return max(self.counts.values()) / max(1, min(self.counts.values())) if self.counts else 1.0


_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_PUBLISHED: dict[str, tuple[tuple[str, ...], int, int, int]] = {
    "cifar10": (_CIFAR, 5000, 32, 3),
    "cifar100": (tuple(f"class {i}" for i in range(100)), 500, 32, 3),
    "mnist": (tuple("0123456789"), 6000, 28, 1),
    "fashion_mnist": (_FASHION, 6000, 28, 1),
    "kmnist": (_KMNIST, 6000, 28, 1),
    "emnist": (tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"), 2400, 28, 1),
    "svhn": (tuple("0123456789"), 7325, 32, 3),
    "stl10": (_CIFAR, 500, 96, 3),
}
"""Classes, training images a class, side and channels of torchvision's sets (nothing need be on disk for them)."""


def look_at(source: str) -> Look:
    """Return what `digits`, a torchvision name, folder:PATH, csv:PATH or a bare path holds; raises UserError."""
    if source in _PUBLISHED:
        names, each, side, channels = _PUBLISHED[source]
        counts = dict.fromkeys(names, each)
        return Look(source, sum(counts.values()), counts, {"train": sum(counts.values()), "test": 1}, side, True, channels)
    if ":" not in source and source != "digits":
        path = Path(source).expanduser()
        kind = "folder" if path.is_dir() else "csv" if path.suffix == ".csv" else ""
        if not kind:
            raise UserError(
                f"{source}: no such folder; allowed: folder:PATH, csv:PATH, digits, {', '.join(_PUBLISHED)} or a path"
            )
        source = f"{kind}:{source}"
    return _listed(source)


def _listed(source: str) -> Look:
    from trainables.data.dataset import DataConfig
    from trainables.data.sources import source_kind, source_module

    try:
        listing = source_module(source_kind(source)).read(DataConfig(source=source))
    except ValueError as error:
        raise UserError(str(error)) from error
    listing, heads = _readable(listing)
    tally = Counter(int(target) for target in listing.targets)
    counts = {name: tally.get(number, 0) for number, name in enumerate(listing.classes)}
    counts = {} if _are_measures(counts) else counts
    if empty := [name for name, count in counts.items() if not count]:
        said = (
            f" ({len(listing.skipped)} files left out, {listing.skipped[0][0]}: {listing.skipped[0][1]})"
            if listing.skipped
            else ""
        )
        raise UserError(f"{source}: no image of class {', '.join(empty)}{said}; add some, or delete what names the class")
    if listing.images is not None:
        height, width, channels = listing.images.shape[1:]
        side, one_size = min(height, width), True
    else:
        side, one_size, channels = _sizes(heads)
    return Look(source, len(listing), counts, dict(Counter(listing.given)), side, one_size, channels, listing.skipped)


def _are_measures(counts: dict[str, int]) -> bool:
    """Return whether labels are measurements, not classes: all numbers, with decimals or nearly all different."""
    try:
        values = [float(name) for name in counts]
    except ValueError:
        return False
    return any(not value.is_integer() for value in values) or len(values) > max(30, sum(counts.values()) / 4)


def _readable(listing: Listing) -> tuple[Listing, list[tuple[int, int, int]]]:
    """Return the listing without what is no image of a sample of its files, and the sample's (height, width, channels)."""
    from trainables.data.decode import inspect_image

    heads, bad = [], dict[int, str]()
    for row in range(0, len(listing.files), max(1, len(listing.files) // SAMPLE)):
        try:
            heads.append(inspect_image(listing.files[row], max_pixels=10**9))
        except ValueError as error:
            bad[row] = str(error)
    if listing.files and not heads:
        raise UserError("no image could be read; are these image files?")
    return (listing.without(bad) if bad else listing), heads


def _sizes(heads: list[tuple[int, int, int]]) -> tuple[int, bool, int]:
    """Return the median short side, whether all have one size, and the channels, of images' (height, width, channels)."""
    side = int(statistics.median(min(height, width) for height, width, _ in heads))
    return side, len({head[:2] for head in heads}) == 1, max(head[2] for head in heads)
