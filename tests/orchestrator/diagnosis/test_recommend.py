"""Advice from drops and class names: what must be forbidden, what answers which weakness, and that the words exist."""

from __future__ import annotations

import pytest

from orchestrator.diagnosis.probe import PROBES, Drop
from orchestrator.diagnosis.recommend import ANSWERS, WITHOUT_MIRROR, advise, name_hints
from search_spaces.augmentation import OP_WORDS, OPS, forbidden_ops

ANIMALS = ("cat", "dog", "frog")


def drop(name: str, value: float, half: float = 0.01) -> Drop:
    operation = next(probe.operation for probe in PROBES if probe.name == name)
    return Drop(name, operation, 0.8 - value, value, value - half, value + half)


def test_every_word_is_one_the_spaces_know() -> None:
    assert set(ANSWERS.values()) | set(WITHOUT_MIRROR.values()) <= set(OPS)
    assert {probe.operation for probe in PROBES} <= set(OP_WORDS)
    assert {probe.name for probe in PROBES} == {*ANSWERS, "mirrored"}
    for name in ANSWERS.values():
        assert not forbidden_ops(WITHOUT_MIRROR.get(name, name), ["hflip", "vflip", "rotate180"])


def test_digits_may_not_be_mirrored_or_turned_over() -> None:
    advice = advise([drop("mirrored", 0.5), drop("rotated", 0.2)], [str(i) for i in range(10)], accuracy=0.8)
    assert advice.forbidden == ("hflip", "vflip", "rotate180")
    assert advice.recommended == ("rotate",)
    assert "characters (0, 1, 2, 3" in advice.reasons[0]


def test_numbered_things_that_bear_mirroring_are_no_characters() -> None:
    advice = advise([drop("mirrored", 0.0)], ["0", "1", "2"], accuracy=0.8)
    assert advice.forbidden == () and advice.recommended == ("crop_flip",)


def test_a_model_broken_by_mirroring_forbids_it_whatever_the_names() -> None:
    advice = advise([drop("mirrored", 0.4), drop("cut off", 0.2)], ANIMALS, accuracy=0.8)
    assert advice.forbidden == ("hflip",)
    assert advice.recommended == ("translate",)  # crop_flip would mirror


def test_a_moderate_cost_of_mirroring_neither_forbids_nor_recommends() -> None:
    advice = advise([drop("mirrored", 0.1)], ANIMALS, accuracy=0.8)
    assert advice == type(advice)((), (), ())


def test_weaknesses_are_answered_worst_first_once_each() -> None:
    drops = [drop("noisy", 0.05), drop("rotated", 0.2), drop("blurred", 0.3), drop("lighting", 0.02), drop("smaller", 0.1, 0.2)]
    advice = advise(drops, ANIMALS, accuracy=0.8)
    assert advice.recommended == ("blur_noise", "rotate")  # lighting is small, smaller not sure
    assert advice.reasons[0] == "blur_noise: blurred images cost 0.300 of accuracy"


def test_overfitting_asks_for_a_policy() -> None:
    advice = advise([], ANIMALS, accuracy=0.7, train_accuracy=0.99)
    assert advice.recommended == ("randaugment",) and "overfitting" in advice.reasons[0]
    assert advise([], ANIMALS, accuracy=0.7, train_accuracy=0.72).recommended == ()


@pytest.mark.parametrize(
    ("classes", "forbidden"),
    [
        (("0 - zero", "1 - one"), {"hflip", "vflip", "rotate180"}),
        (tuple("abcdef"), {"hflip", "vflip", "rotate180"}),
        (("One", "two"), {"hflip", "vflip", "rotate180"}),
        (("turn_left", "turn_right"), {"hflip", "rotate180"}),
        (("thumb up", "thumb down"), {"vflip", "rotate180"}),
        (("speed limit 30", "stop sign"), {"hflip", "vflip", "rotate180"}),
        (("airplane", "bright flower", "upholstery", "T-shirt/top", "x-ray"), set()),
        (ANIMALS, set()),
    ],
)
def test_names_speak(classes: tuple[str, ...], forbidden: set[str]) -> None:
    assert set(name_hints(classes)[0]) == forbidden
