"""`load_splits`: from a DataConfig to three decoded splits, each piece of work done once a node."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache import Entry, build_entry, cache_folder, entry_key, free_bytes, load_entry
from trainables.data.dataset import DataConfig, ImageSet, Splits
from trainables.data.lazy import LazyImages
from trainables.data.listing import Listing, Progress
from trainables.data.plan import Plan, make_plan
from trainables.data.prepare import Prepared, prepare
from trainables.data.sources import source_kind, source_module

SMALL_ARRAYS = 16 * 2**20
"""Under cache "auto", arrays stay in memory below this many bytes (Fashion-MNIST: 1.3 s to read and hash, 0.03 s to map)."""
SMALL_FILES = 2**20
"""Files are decoded into the node's cache from this many decoded bytes on: below, decoding again costs less than it saves."""


def load_splits(config: DataConfig, progress: Progress | None = None) -> Splits:
    """Return train, validation and test of `config.source`; raises ValueError for what the user can mend.

    `progress(what, done, total)` hears of listing, inspecting and decoding. Whatever `config.cache` says, pixels, order and
    fingerprint are the same; "none" gives `LazyImages`, which decode each time they are indexed.
    """
    kind = source_kind(config.source)
    module = source_module(kind)
    if kind == "module:callable":
        found = module.call(config, progress)
        return (
            found
            if isinstance(found, Splits)
            else _splits(_in_memory(make_plan(found, config, progress), config, progress), config)
        )
    key = entry_key(_settings(config), module.signature(config))
    folder = cache_folder(config.cache_dir)
    entry = load_entry(folder, key) if config.cache != "memory" else None
    if entry is None:
        listing: Listing = module.read(config, progress)
        if config.download:  # the files are only now what later loads will see
            key = entry_key(_settings(config), module.signature(config))
        entry = _store(make_plan(listing, config, progress), config, folder, key, progress)
    return _splits(entry, config)


def _settings(config: DataConfig) -> str:
    """Return the part of the config that decides an entry's content."""
    values = asdict(config)
    for name in ("cache_dir", "download"):
        values.pop(name)
    values["cache"] = config.cache == "none"
    return json.dumps(values, sort_keys=True)


def _store(plan: Plan, config: DataConfig, folder: Path, key: str, progress: Progress | None) -> Entry:
    """Decode to where `config.cache` says, falling back from disk to memory, and from memory to decoding each time."""
    small = SMALL_FILES if plan.images is None else SMALL_ARRAYS
    notices: list[str] = []
    try:
        if config.cache == "none" and plan.images is None:
            return build_entry(folder, key, lambda write: prepare(plan, config, write, progress), shape=None)
        if config.cache == "disk" or (config.cache == "auto" and plan.nbytes >= small):
            needed, free = plan.nbytes, free_bytes(folder)
            if needed > free - 2**28:
                raise OSError(f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free")
            return build_entry(folder, key, lambda write: prepare(plan, config, write, progress), shape=plan.shape)
    except OSError as fault:
        notices.append(f"the cache in {folder} cannot be written ({fault})")
    if notices and plan.images is None and (config.cache == "none" or plan.nbytes > _memory_bytes() // 2):
        prepared, images = prepare(plan, config, lambda _: None, progress), None
        notices = [f"{notices[0]}: images are decoded each time they are used"]
    else:
        prepared, images = _in_memory(plan, config, progress)
        notices = [f"{notice}: images are kept in memory" for notice in notices]
    return replace(prepared, notices=(*prepared.notices, *notices)), images


def _in_memory(plan: Plan, config: DataConfig, progress: Progress | None) -> Entry:
    images = np.empty((len(plan.listing), *plan.shape), dtype=np.uint8)
    filled = 0

    def write(block: NDArray[np.uint8]) -> None:
        nonlocal filled
        images[filled : filled + len(block)] = block
        filled += len(block)

    prepared = prepare(plan, config, write, progress)
    return prepared, images[:filled]


def _memory_bytes() -> int:
    names = os.sysconf_names
    pages = os.sysconf("SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in names else "SC_PHYS_PAGES")
    return pages * os.sysconf("SC_PAGE_SIZE")


def _splits(entry: Entry, config: DataConfig) -> Splits:
    prepared, images = entry
    ends = np.cumsum((0, *prepared.sizes)).tolist()
    train, val, test = (
        _part(prepared, images, slice(start, stop), config) for start, stop in zip(ends, ends[1:], strict=False)
    )
    return Splits(
        train=train,
        val=val,
        test=test,
        classes=prepared.classes,
        fingerprint=prepared.fingerprint,
        mean=prepared.mean,
        std=prepared.std,
        source=config.source,
        skipped=prepared.skipped,
        notices=prepared.notices,
    )


def _part(prepared: Prepared, images: NDArray[np.uint8] | None, rows: slice, config: DataConfig) -> ImageSet:
    pixels: Any = images[rows] if images is not None else None
    if pixels is None:
        files = [Path(name) for name in prepared.files[rows]]
        pixels = LazyImages(files, shape=prepared.shape, image_size=prepared.image_size, max_pixels=config.max_pixels)
    values = prepared.targets[rows]
    targets = np.array(values, dtype=np.int64) if prepared.classes else np.array(values, dtype=np.float64)
    return ImageSet(cast("NDArray[np.uint8]", pixels), targets, prepared.ids[rows])
