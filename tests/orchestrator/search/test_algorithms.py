"""Proposers: the same after a replay as without one, points first, and an optimum found where it is known."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.search.algorithms import Proposer, derive_seed, make_proposer, point_in
from search_spaces.space import Choice, Float, Int, Space, When

SPACE = Space(
    "small",
    (
        Choice("optimizer", ("adamw", "sgd")),
        Float("lr", 1e-4, 1e-1, log=True),
        Float("momentum", 0.5, 0.99, when=When("optimizer", ("sgd",))),
        Int("width", 4, 16, step=4),
    ),
    {"model": "cnn_a", "epochs": 3},
)
PLANE = Space("plane", (Float("x", 0.0, 1.0), Float("y", 0.0, 1.0)))
POINT = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "width": 8, "model": "resnet18", "epochs": 50, "dropout": 0.1}


def make(algorithm: str, space: Space = SPACE, **more: Any) -> Proposer:
    return make_proposer(algorithm, space, **{"seed": 3, "mode": "max", "trials": 30, **more})


def play(proposer: Proposer, count: int, start: int = 0) -> list[tuple[str, dict[str, Any], str, float]]:
    """Ask and tell `count` trials, one at a time; every third is stopped, every seventh fails."""
    told = []
    for i in range(start, start + count):
        drawn = proposer.ask(f"t{i}")
        assert drawn is not None
        status = "failed" if i % 7 == 6 else "stopped" if i % 3 == 2 else "finished"
        score = -((drawn.get("x", drawn.get("lr", 0.0)) - 0.03) ** 2)
        proposer.tell(f"t{i}", status=status, score=score, epoch=1 + i % 3)
        told.append((f"t{i}", drawn, status, score))
    return told


@pytest.mark.parametrize("algorithm", ["tpe", "random", "gp", "cmaes"])
@pytest.mark.parametrize("space", [SPACE, PLANE], ids=["conditional", "plane"])
def test_a_replayed_proposer_goes_on_as_the_uninterrupted_one(algorithm: str, space: Space) -> None:
    whole = play(make(algorithm, space), 16)
    resumed = make(algorithm, space)
    for i, (trial_id, drawn, status, score) in enumerate(whole[:11]):
        resumed.recall(trial_id, drawn)
        resumed.tell(trial_id, status=status, score=score, epoch=1 + i % 3)
    assert play(resumed, 5, start=11) == whole[11:]


def test_cmaes_takes_a_configuration_it_would_not_propose() -> None:
    proposer: Any = make("cmaes", PLANE)
    proposer.recall("a", {"x": 0.125, "y": 0.5})
    proposer.tell("a", status="finished", score=1.0, epoch=3)
    assert [t.value for t in proposer._study.trials] == [None, 1.0] and proposer._study.best_params == {"x": 0.125, "y": 0.5}


@pytest.mark.parametrize("algorithm", ["tpe", "gp", "cmaes"])
def test_the_optimum_of_a_bowl_is_approached_better_than_by_random_draws(algorithm: str) -> None:
    def best(name: str) -> float:
        proposer, found = make(name, PLANE, mode="min"), []
        for i in range(30):
            drawn = proposer.ask(str(i)) or {}
            found.append((drawn["x"] - 0.7) ** 2 + (drawn["y"] - 0.2) ** 2)
            proposer.tell(str(i), status="finished", score=found[-1], epoch=1)
        return sorted(found)[4]

    assert best(algorithm) < best("random")


@pytest.mark.parametrize("algorithm", ["tpe", "random", "gp", "cmaes"])
def test_points_come_first_and_a_seed_gives_the_same_draws(algorithm: str) -> None:
    point = point_in(SPACE, POINT)
    assert point == {"model": "cnn_a", "epochs": 3, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "width": 8}
    first, again, other = (play(make(algorithm, points=[point], seed=s), 6) for s in (1, 1, 2))
    assert first[0][1] == point
    assert first == again and first[1:] != other[1:]


@pytest.mark.parametrize(
    "change", [{"lr": 1.0}, {"width": 10}, {"optimizer": "adam"}, {"momentum": None}, {"width": True}, {"lr": "0.01"}]
)
def test_a_point_outside_the_space_is_none(change: dict[str, Any]) -> None:
    assert point_in(SPACE, {**POINT, **change}) is None


def test_a_value_of_a_dimension_that_does_not_exist_here_is_left_out() -> None:
    assert "momentum" not in (point_in(SPACE, {**POINT, "optimizer": "adamw"}) or {})


def test_the_study_holds_what_it_was_told() -> None:
    proposer: Any = make("tpe", PLANE)
    for i, (status, score) in enumerate([("finished", 0.5), ("stopped", 0.2), ("failed", 0.9), ("finished", float("nan"))]):
        proposer.ask(str(i))
        proposer.tell(str(i), status=status, score=score, epoch=4)
    proposer.recall("out", {"x": 5.0, "y": 0.0})
    proposer.tell("out", status="finished", score=1.0, epoch=4)
    trials = proposer._study.trials
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert trials[0].value == 0.5 and trials[1].intermediate_values == {4: 0.2}
    assert proposer._asked == 5


def test_the_grid_is_listed_once_and_then_ends() -> None:
    space = Space("grid", (Choice("model", ("cnn_a", "cnn_b")), Choice("optimizer", ("sgd", "adam"))))
    proposer = make("grid", space, trials=4)
    proposer.recall("t0", {})
    assert [proposer.ask("t") for _ in range(4)] == [
        {"model": "cnn_a", "optimizer": "adam"},
        {"model": "cnn_b", "optimizer": "sgd"},
        {"model": "cnn_b", "optimizer": "adam"},
        None,
    ]
    with pytest.raises(ValueError, match="4 configurations, allowed: 3"):
        make("grid", space, trials=3)


def test_an_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="search.algorithm: got 'best', allowed: tpe, random, gp, cmaes, grid"):
        make("best")


def test_derived_seeds_differ_and_stay() -> None:
    seeds = {derive_seed(0, i) for i in range(1000)}
    assert len(seeds) == 1000 and all(0 <= s < 2**31 for s in seeds)
    assert derive_seed(7, "a") == derive_seed(7, "a") != derive_seed(8, "a")
