"""The named augmentation sets and the operations each may apply, so that a forbidden operation rules out its sets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OP_WORDS: tuple[str, ...] = (
    "hflip", "vflip", "rotate180", "crop", "translate", "rotate", "scale", "shear", "perspective", "elastic", "brightness",
    "contrast", "saturation", "hue", "blur", "noise", "erase", "posterize", "solarize", "equalize", "autocontrast",
    "sharpness", "invert",
)  # fmt: skip
"""Every word `search.forbid` and the diagnosis may use."""

_RANDAUGMENT = (
    "shear", "translate", "rotate", "brightness", "saturation", "contrast", "sharpness", "posterize", "solarize",
    "autocontrast", "equalize",
)  # fmt: skip

OPS: dict[str, tuple[str, ...]] = {
    "none": (),
    "flip": ("hflip",),
    "crop_flip": ("crop", "hflip"),
    "translate": ("translate",),
    "rotate": ("rotate",),
    "scale": ("scale",),
    "colour": ("brightness", "contrast", "saturation", "hue"),
    "geometric": ("rotate", "translate", "scale", "shear", "perspective", "elastic"),
    "blur_noise": ("blur", "noise"),
    "erase": ("erase",),
    "crop_flip_colour": ("crop", "hflip", "brightness", "contrast", "saturation", "hue"),
    "crop_flip_erase": ("crop", "hflip", "erase"),
    "randaugment": _RANDAUGMENT,
    "trivialaugment": _RANDAUGMENT,
    "autoaugment": (*_RANDAUGMENT, "invert"),
    "augmix": _RANDAUGMENT,
}
"""name of a set -> the operations it may apply (the strength is `magnitude`)."""


def check_ops(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words; raises ValueError naming one that is no operation, and the nearest that is."""
    checked = tuple(words)
    for word in checked:
        if word not in OP_WORDS:
            near = difflib.get_close_matches(word, OP_WORDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(OP_WORDS)}"
            raise ValueError(f"augmentation {word!r}: not known; {hint}")
    return checked


def ops_of(name: str) -> tuple[str, ...]:
    """Return the operations of a set, or of sets joined by "+"; raises ValueError for an unknown name.

    A transform of one's own, "module:callable", says nothing here: what it does is known where it runs.
    """
    found: list[str] = []
    for part in (piece.strip() for piece in name.split("+")):
        if part not in OPS and ":" not in part:
            near = difflib.get_close_matches(part, OPS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(OPS)}"
            raise ValueError(f"augmentation: got {name!r}; {hint} (joined by '+', or module:callable)")
        found += OPS.get(part, ())
    return tuple(dict.fromkeys(found))


def forbidden_ops(name: str, forbid: Iterable[str]) -> tuple[str, ...]:
    """Return the operations of a set that are forbidden (empty: the set may be used)."""
    barred = set(forbid)
    return tuple(op for op in ops_of(name) if op in barred)


def sets_for(words: Iterable[str]) -> tuple[str, ...]:
    """Return the sets asked for by name, or by an operation: the smallest set that holds it; raises ValueError."""
    asked: list[str] = []
    for word in words:
        if word in OPS:
            asked.append(word)
            continue
        holders = [name for name, ops in OPS.items() if word in check_ops([word]) and word in ops]
        asked += sorted(holders, key=lambda name: len(OPS[name]))[:1]
    return tuple(dict.fromkeys(asked))
