"""The knob that decides the score comes out on top, conditional knobs are taken, and too few trials are refused."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.report.importance import active, importance_of
from orchestrator.store.records import MemberRecord
from search_spaces.space import Choice, Float, Int, RandomTrial, Space, When, draw

SPACE = Space(
    "toy",
    (
        Float("lr", 1e-4, 1.0, log=True),
        Float("dropout", 0.0, 0.9),
        Choice("optimizer", ("sgd", "adamw")),
        Float("momentum", 0.0, 0.99, when=When("optimizer", ("sgd",))),
        Int("batch_size", 16, 256, log=True),
    ),
    {"epochs": 3},
)


def records(count: int, *, metric: str = "accuracy", sign: float = 1.0) -> list[MemberRecord]:
    made = []
    noise = random.Random(0)
    for number in range(count):
        config = draw(SPACE, RandomTrial(number))
        score = 0.5 - sign * 0.1 * abs(math.log10(config["lr"]) + 2) + noise.uniform(0, 0.01)
        made.append(
            MemberRecord(
                f"t{number}", "trial", "image", config, 0, "h", "f", "finished", best_epoch=1, metrics={f"val/{metric}": score}
            )  # fmt: skip
        )
    return made


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1.0), ("log_loss", -1.0)])
def test_the_knob_that_decides_comes_first(metric: str, sign: float) -> None:
    found = importance_of(records(60, metric=metric, sign=sign), SPACE, metric=metric)
    assert next(iter(found.shares)) == "lr"
    assert found.shares["lr"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == {"lr", "dropout", "optimizer", "momentum", "batch_size"}
    assert found.trials == 60
    assert found.note == ""


def test_too_few_trials_are_said() -> None:
    found = importance_of(records(7), SPACE, metric="accuracy")
    assert found.shares == {}
    assert found.note == "too few: 7 scored trials, 8 are needed"
    assert importance_of(records(8), SPACE, metric="accuracy").shares


def test_only_scored_trials_count_and_equal_scores_tell_nothing() -> None:
    some = records(12)
    failed = [record.replace(status="failed") for record in some[:3]]
    others = [record.replace(kind="refit") for record in some[3:5]]
    assert importance_of(failed + others + some[5:], SPACE, metric="accuracy").note.startswith("too few: 7")
    equal = [record.replace(metrics={"val/accuracy": 0.5}) for record in some]
    assert importance_of(equal, SPACE, metric="accuracy").note == "every trial has the same score"


def test_values_from_outside_the_space_are_left_out() -> None:
    some = records(20)
    odd = [record.replace(config=record.config | {"dropout": 0.95, "optimizer": "lion"}) for record in some[:2]]
    assert importance_of(odd + some[2:], SPACE, metric="accuracy").shares["lr"] > 0.2


def test_active_leaves_out_what_the_conditions_or_the_ranges_exclude() -> None:
    config = {"lr": 0.1, "dropout": 2.0, "optimizer": "adamw", "momentum": 0.9, "batch_size": 32, "epochs": 3}
    assert active(SPACE, config) == {"lr": 0.1, "optimizer": "adamw", "batch_size": 32}
    assert active(SPACE, config | {"optimizer": "sgd"})["momentum"] == 0.9
