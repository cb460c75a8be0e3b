"""The table of sets: compositions, unknown names, and the operations each set may apply."""

from __future__ import annotations

import pytest

from trainables.augment import AUGMENTATIONS, ops_of, parse_set


def test_composition_is_the_union() -> None:
    assert ops_of("crop_flip+colour+erase") == ops_of("crop_flip_colour") | {"erase"}
    assert parse_set("crop_flip + colour") == AUGMENTATIONS["crop_flip_colour"]
    assert ops_of("flip+flip") == {"hflip"}
    assert parse_set("crop_flip+randaugment").policies == ("randaugment",)


@pytest.mark.parametrize("name", ["translate", "colour", "erase", "rotate", "none", "randaugment", "augmix"])
def test_sets_that_must_never_mirror(name: str) -> None:
    assert not ops_of(name) & {"hflip", "vflip", "rotate180"}


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'crop_flipp'; did you mean 'crop_flip'"):
        parse_set("crop_flipp")
    with pytest.raises(ValueError, match="allowed: none, flip"):
        parse_set("flip+zzz")
    with pytest.raises(ValueError, match="got ''"):
        parse_set("")
