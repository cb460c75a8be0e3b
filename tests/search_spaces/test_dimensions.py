"""Dimensions refuse what cannot be drawn, and list the levels that a grid takes."""

from __future__ import annotations

import pytest

from search_spaces.dimensions import Choice, Float, Int, When, from_form, levels, steps_between, to_form


@pytest.mark.parametrize("name", ["a/b", "", "a b", "1a", "a.b"])
def test_a_name_that_searchers_would_unflatten_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="TrainConfig field"):
        Float(name, 0, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Float("lr", 1.0, 0.1), "lr: low 1.0 is above high 0.1"),
        (lambda: Float("lr", 0.0, 1.0, log=True), "above 0"),
        (lambda: Float("lr", 0.1, 1.0, log=True, step=0.1), "exclude each other"),
        (lambda: Float("lr", 0.1, float("inf")), "finite"),
        (lambda: Float("lr", "0.1", 1.0), "lr: low must be a finite number, got '0.1'"),  # type: ignore[arg-type]
        (lambda: Float("lr", False, 1.0), "finite number, got False"),
        (lambda: Float("p", 0.0, 1.0, step=0.0), "step"),
        (lambda: Int("n", 1, 2.5), "whole number, got 2.5"),  # type: ignore[arg-type]
        (lambda: Int("n", True, 3), "whole number, got True"),
        (lambda: Int("n", 1, 3, step=0), "step"),
        (lambda: Choice("c", ()), "no options"),
        (lambda: Choice("c", ("a", "a")), "twice"),
        (lambda: Choice("c", (None,)), "NoneType"),  # type: ignore[arg-type]
        (lambda: When("c", ()), "no values"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_true_and_one_are_two_options() -> None:
    assert Choice("c", (1, True)).options == (1, True)


def test_levels() -> None:
    assert levels(Float("x", 1.0, 100.0, log=True), 3) == pytest.approx((1, 10, 100))
    assert levels(Float("x", 0.0, 1.0), 3) == (0.0, 0.5, 1.0)
    assert levels(Float("x", 0.0, 0.3, step=0.1), 9) == pytest.approx((0, 0.1, 0.2, 0.3))
    assert levels(Int("x", 1, 100), 3) == (1, 50, 100) or levels(Int("x", 1, 100), 3) == (1, 51, 100)
    assert levels(Int("x", 16, 48, step=16), 3) == (16, 32, 48)
    assert levels(Int("x", 1, 2), 3) == (1, 2)
    assert levels(Int("x", 1, 1000, log=True), 4) == (1, 10, 100, 1000)
    assert levels(Float("x", 2.0, 2.0), 3) == (2.0,)
    assert levels(Choice("x", ("a", "b")), 9) == ("a", "b")


def test_steps_forgive_rounding() -> None:
    assert steps_between(0.0, 0.3, 0.1) == 3
    assert steps_between(0.0, 0.29, 0.1) == 2


@pytest.mark.parametrize(
    "dimension",
    [
        Float("x", 0.1, 1.0, log=True),
        Float("x", 0.0, 3.0, step=1.0),
        Int("x", 1, 9, step=2, when=When("c", ("a",))),
        Choice("x", (True, 1.5, "a")),
    ],
)
def test_the_plain_form_reads_back(dimension: Float | Int | Choice) -> None:
    assert from_form("x", to_form(dimension)) == dimension


@pytest.mark.parametrize(
    "form",
    [
        3,
        {},
        {"float": 3},
        {"float": [1]},
        {"float": [0, 1], "choice": [1]},
        {"float": [0, 1], "lg": True},
        {"choice": [1], "log": True},
        {"float": [0, 1], "when": 3},
        {"float": [0, 1], "when": {"a": [1], "b": [2]}},
    ],
)
def test_a_wrong_form_is_refused_by_name(form: object) -> None:
    with pytest.raises(ValueError, match="^x: "):
        from_form("x", form)
