"""Own data by "module:callable": returns (images, targets), (images, targets, ids) or finished Splits."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from trainables.data.dataset import DataConfig, Splits
from trainables.data.listing import Listing, Progress, order_classes


def call(config: DataConfig, progress: Progress | None = None) -> Splits | Listing:
    """Import the module, call the callable without arguments and check what came; raises ValueError."""
    value = _load(config.source)()
    if progress:
        progress(f"call {config.source}", 1, 1)
    if isinstance(value, Splits):
        return value
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        raise ValueError(
            f"data.source: {config.source} returned {type(value).__name__}, expected (images, targets[, ids]) or Splits"
        )
    return _listing(config, *value)


def _load(source: str) -> Any:
    module, _, name = source.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as fault:
        raise ValueError(
            f"data.source: cannot load {source!r}: {fault}; it must be importable (PYTHONPATH) as module:callable"
        ) from fault
    if not callable(found):
        raise ValueError(f"data.source: {source!r} is a {type(found).__name__}, not a callable")
    return found


def _listing(config: DataConfig, images: Any, targets: Any, ids: Any = None) -> Listing:
    pixels = np.asarray(images)
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or len(pixels) != len(targets):
        raise ValueError(
            f"data.source: {config.source}: expected uint8 images [N, H, W, 1 or 3] and N targets,"
            f" got {pixels.dtype} {pixels.shape} and {len(targets)} targets"
        )
    names = tuple(str(name) for name in ids) if ids is not None else tuple(f"row/{row:06d}" for row in range(len(pixels)))
    if len(set(names)) != len(pixels):
        raise ValueError(
            f"data.source: {config.source}: ids must be unique, one a row; got {len(set(names))} for {len(pixels)} rows"
        )
    values, classes = _targets(config, np.asarray(targets))
    return Listing(ids=names, targets=values, given=("",) * len(pixels), classes=classes, images=pixels)


def _targets(config: DataConfig, targets: Any) -> tuple[Any, tuple[str, ...]]:
    if config.task == "regression":
        values = targets.astype(np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"data.source: {config.source}: regression targets must be finite numbers [N], got shape {values.shape}"
            )
        return values, ()
    labels = [str(label) for label in targets]
    classes = order_classes(labels, where=config.source)
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[label] for label in labels], dtype=np.int64), classes
