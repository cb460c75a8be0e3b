"""Class names that say which augmentations change the label."""

from __future__ import annotations

import pytest

from orchestrator.setup.label_guard import guard_for
from search_spaces.augmentation import check_ops

ALL = ("hflip", "vflip", "rotate180")


@pytest.mark.parametrize(
    ("classes", "forbid"),
    [
        (list("0123456789"), ALL),
        (["zero", "one", "two", "three"], ALL),
        (list("ABCDEF"), ALL),
        (list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), ALL),
        (["turn_left", "turn_right"], ("hflip", "rotate180")),
        (["Left", "Right", "None"], ("hflip", "rotate180")),
        (["thumbs_up", "thumbs_down"], ("vflip", "rotate180")),
        (["stop sign", "yield", "speed limit 50", "no overtaking"], ALL),
    ],
)
def test_names_that_warn(classes: list[str], forbid: tuple[str, ...]) -> None:
    guard = guard_for(classes)
    assert guard is not None
    assert guard.forbid == forbid
    assert check_ops(guard.forbid)
    assert guard.reason


@pytest.mark.parametrize(
    "classes",
    [
        [],
        ["ants", "bees"],
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        ["bright", "cleft", "cup"],
        ["0", "1"],
        ["stop watch", "cat"],
        ["T-shirt/top", "Trouser", "Pullover"],
    ],
)
def test_names_that_say_nothing(classes: list[str]) -> None:
    assert guard_for(classes) is None
