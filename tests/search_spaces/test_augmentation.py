"""The augmentation sets as data."""

from __future__ import annotations

import pytest

from search_spaces.augmentation import OP_WORDS, OPS, check_ops, forbidden_ops, ops_of, sets_for


def test_every_set_is_made_of_known_operations() -> None:
    for ops in OPS.values():
        assert check_ops(ops) == ops
        assert len(set(ops)) == len(ops)


def test_joined_sets_apply_all_their_operations() -> None:
    assert ops_of("crop_flip + erase") == ("crop", "hflip", "erase")
    assert ops_of("crop_flip+flip") == ("crop", "hflip")
    assert ops_of("my.module:transform") == ()
    assert forbidden_ops("translate+crop_flip", ["hflip", "blur"]) == ("hflip",)
    with pytest.raises(ValueError, match="did you mean 'erase'"):
        ops_of("flip+erasee")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("hflip", "flip"),
        ("crop", "crop_flip"),
        ("blur", "blur_noise"),
        ("hue", "colour"),
        ("elastic", "geometric"),
        ("invert", "autoaugment"),
    ],
)
def test_an_operation_asks_for_the_smallest_set_that_holds_it(word: str, name: str) -> None:
    assert sets_for([word]) == (name,)
    assert all(len(OPS[name]) <= len(ops) for ops in OPS.values() if word in ops)


def test_sets_may_be_asked_for_by_name() -> None:
    assert sets_for(["scale", "geometric", "shear"]) == ("scale", "geometric")
    assert sets_for(["vflip"]) == ()  # known, but in no set
    assert "vflip" in OP_WORDS
    with pytest.raises(ValueError, match="not known"):
        sets_for(["zzz"])
