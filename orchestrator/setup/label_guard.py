"""Which augmentations would change the label, guessed from the names of the classes: a flipped 2 is no 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_NUMBERS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
_SIDES = re.compile(r"(?i)(?:^|[^a-z])(left|right|clockwise|anticlockwise|counterclockwise|east|west)(?:[^a-z]|$)")
_UPRIGHT = re.compile(r"(?i)(?:^|[^a-z])(up|down|upward|downward|upside|north|south|thumbs?)(?:[^a-z]|$)")
_SIGNS = re.compile(r"(?i)(?:^|[^a-z])(stop|yield|speed|limit|turn|merge|sign|signs|keep|roundabout|overtaking)(?:[^a-z]|$)")


@dataclass(frozen=True)
class LabelGuard:
    """Operations to forbid, and why."""

    forbid: tuple[str, ...]
    reason: str


def guard_for(classes: Iterable[str]) -> LabelGuard | None:
    """Return what class names say must not be done to the images, or None where they say nothing.

    >>> guard_for(["turn left", "turn right"]).forbid
    ('hflip', 'rotate180')
    """
    names = [name.strip() for name in classes]
    if len(names) >= 3 and _share(names, _is_digit) > 0.5:
        return LabelGuard(
            ("hflip", "vflip", "rotate180"), "the classes look like digits: a mirrored 2 is no 2, a 6 turned round is a 9"
        )
    if len(names) >= 4 and _share(names, lambda n: len(n) == 1 and n.isalpha()) > 0.5:
        return LabelGuard(("hflip", "vflip", "rotate180"), "the classes look like letters: a mirrored B is no B")
    sided = [name for name in names if _SIDES.search(name.replace("_", " "))]
    upright = [name for name in names if _UPRIGHT.search(name.replace("_", " "))]
    signs = [name for name in names if _SIGNS.search(name.replace("_", " "))]
    if len(signs) >= 3:
        return LabelGuard(
            ("hflip", "vflip", "rotate180"), f"the classes look like signs ({_some(signs)}): a flip makes another sign"
        )
    forbid = (("hflip",) if sided else ()) + (("vflip",) if upright else ()) + (("rotate180",) if sided or upright else ())
    if not forbid:
        return None
    return LabelGuard(forbid, f"class names tell sides apart ({_some([*sided, *upright])})")


def _is_digit(name: str) -> bool:
    return (name.isdecimal() and len(name) <= 2) or name.lower() in _NUMBERS


def _share(names: list[str], test: Callable[[str], bool]) -> float:
    return sum(test(name) for name in names) / len(names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3])
