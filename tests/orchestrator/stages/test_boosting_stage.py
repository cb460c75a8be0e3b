"""The course of boosting, stage by stage, with stand-ins for training: who is trained, who stays, and why it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.ensemble.boosting import CHANCE, Round
from orchestrator.stages import boosting
from orchestrator.stages.boosting import Boosted, run_boosting


def fitting(rounds: int) -> Any:
    context = SimpleNamespace(
        experiment=SimpleNamespace(ensemble=SimpleNamespace(boost_rounds=rounds)), say=lambda _: None,
        splits=lambda: SimpleNamespace(train=range(4)),
    )  # fmt: skip
    return SimpleNamespace(context=context, parents=lambda: [SimpleNamespace(trial_id="p", usable=True)])


def weigh_as(monkeypatch: pytest.MonkeyPatch, rounds: list[Round], losses: list[float]) -> list[str]:
    """Let stage after stage weigh and score as given; returns who is trained."""
    trained: list[str] = []
    left, scores = iter(rounds), iter(losses)

    def train(_: Any, parent: Any, stage: int, weights_N: Any) -> Any:
        assert weights_N[0] == stage  # the weights that the stage before left
        trained.append(f"{parent.trial_id}-boost{stage}")
        return SimpleNamespace(trial_id=trained[-1], usable=True)

    monkeypatch.setattr(boosting, "_train", train)
    monkeypatch.setattr(boosting, "_weigh", lambda *_: next(left))
    monkeypatch.setattr(boosting, "_loss", lambda *_: next(scores))
    return trained


def good(stage: int, stop: str | None = None) -> Round:
    return Round(0.2, 1.0, np.full(4, float(stage)), stop)


def test_none_asked_none_trained() -> None:
    assert run_boosting(fitting(0)) is None


def test_stages_follow_until_all_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = weigh_as(monkeypatch, [good(1), good(2), good(3)], [0.9, 0.8, 0.7])
    found = run_boosting(fitting(2))
    assert found is not None
    assert trained == ["p-boost1", "p-boost2"]
    assert found.member_ids == ("p", "p-boost1", "p-boost2")


def test_a_rising_validation_loss_ends_it_and_drops_the_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = weigh_as(monkeypatch, [good(1), good(2), good(3)], [0.9, 0.8, 0.85])
    found = run_boosting(fitting(5))
    assert found is not None
    assert trained == ["p-boost1", "p-boost2"]
    assert found.member_ids == ("p", "p-boost1")
    assert "rises" in found.stopped


def test_a_first_stage_no_better_than_chance_leaves_nothing_but_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = weigh_as(monkeypatch, [Round(0.9, 0.0, np.ones(4), CHANCE)], [])
    found = run_boosting(fitting(3))
    assert found is not None
    assert (found.member_ids, found.stopped, trained) == ((), CHANCE, [])


def test_regression_votes_by_the_weighted_median() -> None:
    values = {"a": 1.0, "b": 5.0, "c": 9.0}
    bank = SimpleNamespace(get=lambda member, _: np.full((2, 1), values[member], dtype=np.float32))
    room: Any = SimpleNamespace(spec=SimpleNamespace(regression=True), bank=bank)
    assert Boosted(("a", "b", "c"), (1.0, 1.0, 1.0), (0, 0, 0), "").predict(room, "val").tolist() == [[5.0], [5.0]]
    assert Boosted(("a", "b", "c"), (1.0, 1.0, 3.0), (0, 0, 0), "").predict(room, "val").tolist() == [[9.0], [9.0]]
