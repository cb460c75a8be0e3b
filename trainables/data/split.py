"""Which row goes to train, validation or test: stratified, seeded, and decided by each row's own id, never by its place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Assignment:
    """Row numbers of each split, each in ascending order."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    notices: tuple[str, ...] = ()


def assign(listing: Listing, config: DataConfig) -> Assignment:
    """Cut what the source left open: given splits are respected, a given test stays whole, `limit` caps train + validation."""
    given = np.array([word or "train" for word in listing.given])
    train, val, test = (np.flatnonzero(given == split) for split in SPLITS)
    if not len(train):
        raise ValueError("data.source: no training rows; name a train split or leave the split open")
    cut = Cutter(listing, seed=config.split_seed)
    notices = []
    if config.limit:
        room = config.limit if len(test) else round(config.limit / (1.0 - config.test_fraction))
        train, val = _limited(cut, train, val, room)
    pool = len(train)
    if not len(test):
        test, train = cut.cut(train, round(pool * config.test_fraction), keep=2)
        if len(val):
            notices.append("no test split is given: it was cut from train, the given validation split stays whole")
    if not len(val):
        val, train = cut.cut(train, round(pool * config.val_fraction), keep=1)
    for name, rows in (("train", train), ("validation", val), ("test", test)):
        if not len(rows):
            raise ValueError(
                f"data: the {name} split is empty ({len(listing)} rows in all); more images or other fractions are needed"
            )
    return Assignment(np.sort(train), np.sort(val), np.sort(test), tuple(notices))


class Cutter:
    """Stratified draws without replacement from the rows of a listing; regression draws plainly."""

    def __init__(self, listing: Listing, *, seed: int) -> None:
        self._strata = listing.targets if listing.classes else np.zeros(len(listing), dtype=np.int64)
        marks = [hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in listing.ids]
        self._rank = np.frombuffer(b"".join(marks), dtype=">u8")

    def cut(self, rows: NDArray[np.int64], count: int, *, keep: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (taken, left): `count` of `rows` in proportion to their classes, leaving `keep` or more of each."""
        groups = [rows[self._strata[rows] == stratum] for stratum in np.unique(self._strata[rows])]
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        shares = quotas(sizes, count, keep=keep)
        ordered = [group[np.argsort(self._rank[group], kind="stable")] for group in groups]
        taken = [group[:share] for group, share in zip(ordered, shares, strict=True)]
        left = [group[share:] for group, share in zip(ordered, shares, strict=True)]
        return np.concatenate(taken), np.concatenate(left)


def quotas(sizes: NDArray[np.int64], count: int, *, keep: int = 0) -> NDArray[np.int64]:
    """Share `count` among groups in proportion to `sizes` (largest remainder).

    Each group gives at least one where it can spare it (more than `keep` rows), and none goes below `keep`.
    """
    exact = sizes * (count / max(1, int(sizes.sum())))
    shares: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(-(exact - shares), kind="stable")
    shares[by_remainder[: count - shares.sum()]] += 1
    if count > 0:
        shares = np.maximum(shares, 1)
    while shares.sum() > count and shares.max() > 1:
        shares[shares.argmax()] -= 1
    return np.minimum(shares, np.maximum(sizes - keep, 0)).astype(np.int64)


def _limited(
    cut: Cutter, train: NDArray[np.int64], val: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cap train + validation at `room` rows, each in its proportion."""
    total = len(train) + len(val)
    if room >= total:
        return train, val
    kept_val = round(room * len(val) / total)
    return cut.cut(train, room - kept_val)[0], cut.cut(val, kept_val)[0] if len(val) else val
