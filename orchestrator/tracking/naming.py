"""Names and values as MLflow accepts them: metric and parameter names, finite numbers, flat parameters, bounded text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

MAX_NAME = 250
MAX_PARAM = 6000
MAX_TAG = 8000
_FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)

T = TypeVar("T")


def safe_name(name: str) -> str:
    """Return a name of letters, digits and `_ - . space : /` that reads as a relative path ("acc@5" -> "acc_5")."""
    parts = [part for part in _FORBIDDEN.sub("_", name).split("/") if part.strip(".") and part.strip()]
    return "/".join(parts)[:MAX_NAME].rstrip("/") or "unnamed"


def split_finite(metrics: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the finite metrics by safe name, and the names of those that are not finite numbers."""
    kept: dict[str, float] = {}
    dropped: list[str] = []
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            kept[safe_name(name)] = number
        else:
            dropped.append(safe_name(name))
    return kept, dropped


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as one level of text: {"search": {"trials": 8}} -> {"search.trials": "8"}."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat.update(flat_params(value, f"{prefix}{name}."))
        else:
            flat[safe_name(f"{prefix}{name}")] = cut(str(value), MAX_PARAM)
    return flat


def safe_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags with safe names and bounded text."""
    return {safe_name(name): cut(str(value), MAX_TAG) for name, value in tags.items()}


def cut(text: str, limit: int) -> str:
    """Return text of at most `limit` characters, the cut marked by three dots."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
