"""Spaces: conditions, draws, grids and narrowing, against closed forms and brute force."""

from __future__ import annotations

import pickle
import statistics
from collections import Counter

import pytest

from search_spaces.space import (
    Choice,
    Float,
    Int,
    RandomTrial,
    Space,
    When,
    draw,
    from_dict,
    grid,
    narrow,
    size,
    to_dict,
)

NESTED = Space(
    "nested",
    (
        Choice("optimizer", ("adamw", "sgd")),
        Float("momentum", 0.8, 0.99, when=When("optimizer", ("sgd",))),
        Choice("nesterov", (True, False), when=When("optimizer", ("sgd",))),
        Float("clip_norm", 1.0, 3.0, when=When("nesterov", (True,))),
        Choice("batch_size", (16, 32)),
    ),
    {"model": "cnn_a"},
)


def test_a_condition_follows_its_key() -> None:
    for seed in range(200):
        drawn = draw(NESTED, RandomTrial(seed))
        assert drawn["model"] == "cnn_a"
        assert ("momentum" in drawn) == ("nesterov" in drawn) == (drawn["optimizer"] == "sgd")
        assert ("clip_norm" in drawn) == (drawn.get("nesterov") is True)


def test_draws_are_seeded_and_within_bounds() -> None:
    space = Space(
        "s",
        (Float("a", 1e-4, 1e-1, log=True), Float("b", 0.0, 0.3, step=0.1), Int("c", 1, 8, log=True), Int("d", 2, 8, step=3)),
    )
    drawn = [draw(space, RandomTrial(seed)) for seed in range(2000)]
    assert drawn == [draw(space, RandomTrial(seed)) for seed in range(2000)]
    assert all(1e-4 <= d["a"] <= 1e-1 for d in drawn)
    assert {round(d["b"], 6) for d in drawn} == {0.0, 0.1, 0.2, 0.3}
    assert {d["c"] for d in drawn} == set(range(1, 9))
    assert {d["d"] for d in drawn} == {2, 5, 8}
    assert 10**-2.6 < statistics.median(d["a"] for d in drawn) < 10**-2.4  # log-uniform: the geometric middle
    ones, eights = (Counter(d["c"] for d in drawn)[n] for n in (1, 8))
    assert 5 < ones / eights < 15  # ln(1.5 / 0.5) / ln(8.5 / 7.5) = 8.8


def test_optunas_trial_draws_the_same_keys() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        drawn = draw(NESTED, trial)
        assert drawn == {"model": "cnn_a", **trial.params}
        study.tell(trial, 0.0)


def test_size_and_grid_agree_with_brute_force() -> None:
    found = grid(NESTED, limit=1000)
    # adamw: 2 batch sizes; sgd: 3 momenta x (nesterov: 3 clips, plain: 1) x 2 batch sizes
    assert size(NESTED) == len(found) == 2 + 3 * (3 + 1) * 2
    assert len({tuple(sorted(point.items())) for point in found}) == len(found)
    assert size(Space("one", (), {"lr": 1.0})) == 1


def test_a_grid_over_the_limit_says_its_size() -> None:
    with pytest.raises(ValueError, match="has 26 configurations, allowed: 25"):
        grid(NESTED, limit=25)


@pytest.mark.parametrize(
    ("dimensions", "constants", "said"),
    [
        ((Float("a", 0, 1, when=When("b", (1,))), Choice("b", (1, 2))), {}, "no earlier dimension"),
        ((Choice("b", (1, 2)), Float("a", 0, 1, when=When("b", (3,)))), {}, r"waits for b = \[3\]"),
        ((Float("b", 0, 1), Float("a", 0, 1, when=When("b", (0.5,)))), {}, "not a number"),
        ((Float("a", 0, 1),), {"a": 1}, "both a constant and a dimension"),
        ((Float("a", 0, 1), Float("a", 0, 1)), {}, "appears twice"),
    ],
)
def test_a_space_that_cannot_hold_is_refused(dimensions: tuple[object, ...], constants: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Space("s", dimensions, constants)  # type: ignore[arg-type]


def test_one_name_twice_needs_conditions_that_exclude_each_other() -> None:
    kind = Choice("kind", ("x", "y"))
    low, high = Float("a", 0, 1, when=When("kind", ("x",))), Float("a", 5, 6, when=When("kind", ("y",)))
    space = Space("s", (kind, low, high))
    for seed in range(50):
        drawn = draw(space, RandomTrial(seed))
        assert (drawn["a"] >= 5) == (drawn["kind"] == "y")
    with pytest.raises(ValueError, match="appears twice"):
        Space("s", (kind, low, Float("a", 5, 6, when=When("kind", ("x", "y")))))
    with pytest.raises(ValueError, match="appears twice"):
        Space("s", (kind, low, Int("a", 5, 6, when=When("kind", ("y",)))))
    assert from_dict(to_dict(space)) == space


def test_spaces_pickle_and_read_back() -> None:
    assert pickle.loads(pickle.dumps(NESTED)) == NESTED
    assert from_dict(to_dict(NESTED)) == NESTED
    assert NESTED.keys == ("model", "optimizer", "momentum", "nesterov", "clip_norm", "batch_size")


@pytest.mark.parametrize("form", [{"dimension": {}}, {"dimensions": []}, {"constants": 3}])
def test_a_wrong_plain_form_is_refused(form: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="space"):
        from_dict(form)


SETS = Space(
    "sets",
    (
        Choice("augmentation", ("none", "crop_flip", "translate", "randaugment", "rotate+erase")),
        Float("magnitude", 0.5, 1.5, when=When("augmentation", ("crop_flip", "translate", "randaugment", "rotate+erase"))),
        Float("lr", 0.1, 1.0),
    ),
)


def options(space: Space) -> tuple[object, ...]:
    return next(d.options for d in space.dimensions if isinstance(d, Choice))


def test_forbidden_operations_take_their_sets_away() -> None:
    assert options(narrow(SETS, ["hflip"])) == ("none", "translate", "randaugment", "rotate+erase")
    assert options(narrow(SETS, ["rotate"])) == ("none", "crop_flip", "translate")
    assert narrow(SETS, ["hflip"]).dimensions[1].when == When("augmentation", ("translate", "randaugment", "rotate+erase"))
    assert narrow(SETS, ()) == SETS


def test_where_nothing_is_left_none_is() -> None:
    flips = Space("flips", (Choice("augmentation", ("flip",)), Float("magnitude", 0, 1, when=When("augmentation", ("flip",)))))
    assert narrow(flips, ["hflip"]).dimensions == (Choice("augmentation", ("none",)),)


def test_recommended_sets_come_first_and_keep_their_strength() -> None:
    space = narrow(SETS, ["hflip"], ["blur", "translate", "erase"])
    assert options(space) == ("blur_noise", "translate", "erase", "none", "randaugment", "rotate+erase")
    assert space.dimensions[1].when is not None and "blur_noise" in space.dimensions[1].when.values
    assert options(narrow(SETS, ["hflip"], ["crop_flip"]))[0] == "none"  # forbidden wins


def test_unknown_operations_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'hflip'"):
        narrow(SETS, ["hflp"])
