"""The one table of data sources: a word of `data.source` and the module that reads it."""

from __future__ import annotations

import importlib
from typing import Any

SOURCES: dict[str, str] = {
    "digits": "digits",
    "folder:PATH": "folder",
    "csv:PATH": "manifest",
    "cifar10": "torchvision_sets",
    "cifar100": "torchvision_sets",
    "mnist": "torchvision_sets",
    "fashion_mnist": "torchvision_sets",
    "kmnist": "torchvision_sets",
    "emnist": "torchvision_sets",
    "svhn": "torchvision_sets",
    "stl10": "torchvision_sets",
    "module:callable": "own",
}
"""what a user writes -> module below `trainables.data.sources`, imported only when asked for."""


def source_kind(source: str) -> str:
    """Return the key of SOURCES that `source` falls under; raises ValueError listing them."""
    head, colon, rest = source.partition(":")
    kind = source if source in SOURCES and not colon else ""
    if colon and rest:
        kind = f"{head}:PATH" if f"{head}:PATH" in SOURCES else "module:callable"
    if not kind:
        raise ValueError(f"data.source: got {source!r}, allowed: {', '.join(SOURCES)}")
    return kind


def source_module(kind: str) -> Any:
    """Return the module that reads a kind of source."""
    return importlib.import_module(f"{__name__}.{SOURCES[kind]}")
