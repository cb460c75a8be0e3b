"""One streaming pass over the planned rows: decode in parallel, hand the pixels on in order, hash and measure them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.dataset import DataConfig
from trainables.data.decode import BadImage, decode_image, fit_image
from trainables.data.listing import Listing, Progress
from trainables.data.plan import CHUNK, Plan, check_bad
from trainables.data.split import SPLITS

Pixels = NDArray[np.uint8]
Write = Callable[[Pixels], object]


@dataclass(frozen=True)
class Prepared:
    """All that is known of the decoded rows besides their pixels; JSON-ready, so that a cache can hold it."""

    ids: tuple[str, ...]
    targets: tuple[float, ...]
    sizes: tuple[int, int, int]
    """Rows of train, validation and test, which lie in this order."""
    shape: tuple[int, int, int]
    image_size: int
    classes: tuple[str, ...]
    files: tuple[str, ...]
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]

    def to_json(self) -> str:
        """Return the JSON text of all fields."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Prepared:
        """Return what `to_json` wrote."""
        loaded: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in loaded.items()}
        values["skipped"] = tuple((file, reason) for file, reason in values["skipped"])
        return cls(**values)


def prepare(plan: Plan, config: DataConfig, write: Write, progress: Progress | None = None) -> Prepared:
    """Decode all rows, hand blocks of uint8 [n, H, W, C] to `write` in order, and return what is known of them.

    Rows that cannot be decoded are left out and named; more of them than `max_bad_fraction` raise ValueError.
    """
    kept: list[NDArray[np.int64]] = []
    bad: list[tuple[str, str]] = []
    digests: list[bytes] = []
    counts = np.zeros((plan.shape[2], 256), dtype=np.int64)
    total = len(plan.listing)
    for rows, block, faults in _decoded(plan, config):
        write(block)
        kept.append(rows)
        bad += faults
        digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in block]
        _count(counts, block[rows < plan.sizes[0]])
        if progress:
            progress("decode images", len(digests) + len(bad), total)
    check_bad(bad, total, config)
    return _describe(plan, np.concatenate(kept), digests, counts, (*plan.listing.skipped, *bad))


def _decoded(plan: Plan, config: DataConfig) -> Iterator[tuple[NDArray[np.int64], Pixels, list[tuple[str, str]]]]:
    """Yield (rows decoded, their pixels, what failed and why) chunk by chunk."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(plan.listing), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(plan.listing)))
            if plan.images is not None and plan.images.shape[1:] == plan.shape:
                yield rows, plan.images[plan.order[rows]], []
                continue
            images = list(pool.map(lambda row: _decode_row(plan, row, config), rows.tolist()))
            good = [image for image in images if not isinstance(image, BadImage)]
            faults = [
                (plan.listing.ids[row], str(image))
                for row, image in zip(rows, images, strict=True)
                if isinstance(image, BadImage)
            ]
            well = np.array([not isinstance(image, BadImage) for image in images], dtype=bool)
            yield rows[well], np.stack(good) if good else np.empty((0, *plan.shape), dtype=np.uint8), faults


def _decode_row(plan: Plan, row: int, config: DataConfig) -> Pixels | BadImage:
    if plan.images is not None:
        from PIL import Image

        pixels = plan.images[plan.order[row]]
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return fit_image(picture, image_size=plan.image_size, channels=plan.shape[2])
    try:
        image = decode_image(
            plan.listing.files[row], image_size=plan.image_size, channels=plan.shape[2], max_pixels=config.max_pixels
        )
    except BadImage as fault:
        return fault
    return image if image.shape == plan.shape else BadImage(f"shape {image.shape} where all others are {plan.shape}")


def _count(counts: NDArray[np.int64], block: Pixels) -> None:
    """Add the block's pixel values to the histogram [C, 256], from which mean and deviation follow exactly."""
    for channel in range(len(counts)):
        counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)


def _describe(
    plan: Plan, kept: NDArray[np.int64], digests: list[bytes], counts: NDArray[np.int64], skipped: tuple[tuple[str, str], ...]
) -> Prepared:
    listing = plan.listing.take(kept)
    sizes = np.diff(np.searchsorted(kept, np.cumsum([0, *plan.sizes])))
    names = [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
    mean, std = _statistics(counts)
    notices = [*listing.notices, *_class_notices(listing, names), *_leak_notices(names, digests)]
    if skipped:
        notices.append(f"{len(skipped)} file(s) left out: " + "; ".join(f"{name} ({why})" for name, why in skipped[:3]))
    return Prepared(
        ids=listing.ids,
        targets=tuple(listing.targets.tolist()),
        sizes=(int(sizes[0]), int(sizes[1]), int(sizes[2])),
        shape=plan.shape,
        image_size=plan.image_size,
        classes=listing.classes,
        files=tuple(str(path) for path in listing.files),
        fingerprint=_fingerprint(listing, names, digests),
        mean=mean,
        std=std,
        skipped=skipped,
        notices=tuple(notices),
    )


def _fingerprint(listing: Listing, names: list[str], digests: list[bytes]) -> str:
    total = hashlib.sha256(json.dumps(listing.classes).encode())
    for name, row, target, digest in zip(names, listing.ids, listing.targets.tolist(), digests, strict=True):
        total.update(json.dumps([name, row, target]).encode() + digest)
    return total.hexdigest()[:12]


def _statistics(counts: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    values = np.arange(256) / 255.0
    weights = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    mean = weights @ values
    variance = (weights * (values[None, :] - mean[:, None]) ** 2).sum(axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _leak_notices(names: list[str], digests: list[bytes]) -> list[str]:
    """Count validation and test images whose pixels also occur in an earlier split."""
    first: dict[bytes, str] = {}
    leaks: dict[str, int] = {}
    for name, digest in zip(names, digests, strict=True):
        origin = first.setdefault(digest, name)
        if origin != name:
            what = f"{name} image(s) also occur in {origin}"
            leaks[what] = leaks.get(what, 0) + 1
    return [f"exact duplicates: {count} {what}" for what, count in leaks.items()]


def _class_notices(listing: Listing, names: list[str]) -> list[str]:
    """Name classes without an image in a split; in train that is a ValueError."""
    notices = []
    for split in SPLITS if listing.classes else ():
        present = {target for target, name in zip(listing.targets.tolist(), names, strict=True) if name == split}
        absent = [name for index, name in enumerate(listing.classes) if index not in present]
        if absent and split == "train":
            raise ValueError(f"data.source: no readable training image in class {', '.join(absent)}")
        if absent:
            notices.append(f"no {split} image in class {', '.join(absent)}")
    return notices
