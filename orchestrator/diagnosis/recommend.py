"""From a baseline's weaknesses to augmentations: what answers them, and what would change the label and is forbidden."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.diagnosis.probe import Drop

WEAK = 0.03
"""A drop of at least this (and surely above zero) is a weakness."""
MIRROR_SAFE, MIRROR_HARMFUL = 0.05, 0.4
"""Drop of accuracy on mirrored images up to which mirroring surely keeps the label, and the share of accuracy lost from
which it is taken to change it. Measured shares: CIFAR-10 0.00, Fashion-MNIST (its shoes all point left) 0.27, digits 0.6."""
MIRRORED = "mirrored"
ANSWERS = {
    "rotated": "rotate",
    "shifted": "translate",
    "smaller": "scale",
    "cut off": "crop_flip",
    "lighting": "colour",
    "low contrast": "colour",
    "colours": "colour",
    "blurred": "blur_noise",
    "noisy": "blur_noise",
    "hidden part": "erase",
}
"""Weakness -> the augmentation set that answers it."""
WITHOUT_MIRROR = {"crop_flip": "translate"}
"""What takes a set's place where mirroring is forbidden."""
GAP = 0.08
"""Training accuracy above validation accuracy by this much is overfitting, which augmentation answers."""

_CHARACTER = re.compile(r"(?:(?:digit|letter|char)[ _-]?)?(?:[0-9]|[A-Za-z])(?: *- *\w+)?")
_DIGIT_WORDS = frozenset(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))
_SIDES = re.compile(r"(?:^|[^a-z])(?:left|right|clockwise|counterclockwise|anticlockwise)(?:[^a-z]|$)", re.IGNORECASE)
_ENDS = re.compile(r"(?:^|[^a-z])(?:up|down|upward|downward|upside)(?:[^a-z]|$)", re.IGNORECASE)
_SIGNS = re.compile(r"speed.?limit|traffic|no.?entry|stop.?sign|arrow|roundabout|priority.?road", re.IGNORECASE)


@dataclass(frozen=True)
class Advice:
    """Operations that must not be used, augmentation sets worth trying (most needed first), and the reason of each."""

    forbidden: tuple[str, ...]
    recommended: tuple[str, ...]
    reasons: tuple[str, ...]


def advise(drops: Sequence[Drop], classes: Sequence[str], *, accuracy: float, train_accuracy: float | None = None) -> Advice:
    """Return what to forbid and what to try.

    `drops` come from `probe.measure`; `accuracy` is the baseline's on validation, `train_accuracy` its own on training images.
    A mirrored image is judged by the class names, and by how much accuracy mirroring costs a model that was trained without it:
    on pictures of things it costs little, on characters and signs most of it. Names that look like characters ("0", "b") but
    whose images bear mirroring are numbers of other things.
    """
    mirror = next((drop for drop in drops if drop.name == MIRRORED), None)
    safe = mirror is not None and mirror.high <= MIRROR_SAFE
    forbidden, reasons = name_hints(classes, characters=not safe)
    if mirror is not None and "hflip" not in forbidden and mirror.drop >= MIRROR_HARMFUL * accuracy and mirror.low > 0:
        forbidden += ("hflip",)
        reasons += (f"hflip forbidden: accuracy falls from {accuracy:.3f} to {mirror.accuracy:.3f} on mirrored images",)
    wanted: dict[str, str] = {}
    if mirror is not None and safe and "hflip" not in forbidden:
        wanted["crop_flip"] = f"mirrored images keep their class (accuracy {mirror.accuracy:.3f} against {accuracy:.3f})"
    for drop in sorted(drops, key=lambda one: -one.drop):
        if drop.name in ANSWERS and drop.drop >= WEAK and drop.low > 0:
            wanted.setdefault(_allowed(ANSWERS[drop.name], forbidden), f"{drop.name} images cost {drop.drop:.3f} of accuracy")
    if train_accuracy is not None and train_accuracy - accuracy >= GAP:
        why = f"overfitting: accuracy {train_accuracy:.3f} in training, {accuracy:.3f} in validation"
        wanted.setdefault("randaugment", why)
    reasons += tuple(f"{name}: {why}" for name, why in wanted.items())
    return Advice(forbidden, tuple(wanted), reasons)


def name_hints(classes: Sequence[str], *, characters: bool = True) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the operations that class names rule out, and why: characters (if asked), sides, directions, signs."""
    forbidden: dict[str, str] = {}
    like = [name for name in classes if characters and _is_character(name)]
    if like and len(like) >= 0.5 * len(classes):
        for operation in ("hflip", "vflip", "rotate180"):
            forbidden.setdefault(operation, f"classes are characters ({', '.join(like[:4])}, ...)")
    for pattern, operations, what in (
        (_SIDES, ("hflip", "rotate180"), "sides"),
        (_ENDS, ("vflip", "rotate180"), "directions"),
        (_SIGNS, ("hflip", "vflip", "rotate180"), "signs"),
    ):
        found = [name for name in classes if pattern.search(name)]
        if found:
            for operation in operations:
                forbidden.setdefault(operation, f"classes name {what} ({', '.join(found[:4])})")
    return tuple(forbidden), tuple(f"{operation} forbidden: {why}" for operation, why in forbidden.items())


def _is_character(name: str) -> bool:
    return bool(_CHARACTER.fullmatch(name.strip())) or name.strip().lower() in _DIGIT_WORDS


def _allowed(name: str, forbidden: tuple[str, ...]) -> str:
    return WITHOUT_MIRROR.get(name, name) if "hflip" in forbidden else name
