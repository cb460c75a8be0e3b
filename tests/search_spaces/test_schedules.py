"""Schedule families: an argument exists exactly where a family that takes it is drawn."""

from __future__ import annotations

import pytest

from search_spaces.schedules import FAMILIES, schedule_dimensions
from search_spaces.space import RandomTrial, Space, draw


def test_a_draw_holds_the_arguments_of_its_family_and_no_others() -> None:
    space = Space("schedules", schedule_dimensions(*FAMILIES))
    seen = set()
    for seed in range(400):
        drawn = draw(space, RandomTrial(seed))
        family = drawn.pop("schedule")
        seen.add(family)
        arguments = {a.name: a for a in FAMILIES[family]}
        assert set(drawn) == set(arguments)
        assert all(arguments[key].low <= value <= arguments[key].high for key, value in drawn.items())  # type: ignore[union-attr]
    assert seen == set(FAMILIES)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="cosin.*allowed: constant"):
        schedule_dimensions("cosin")
