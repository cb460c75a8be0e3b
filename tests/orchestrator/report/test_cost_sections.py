"""The family and the bags in the report: every number of `ensemble.json` at its place, nothing where there is nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrator.report.blocks import Bullets, Table, Text
from orchestrator.report.cost_sections import bags, family


def facts(**ensemble: Any) -> Any:
    return SimpleNamespace(ensemble=ensemble)


def test_nothing_to_say_is_no_section() -> None:
    assert family(facts()) is None
    assert bags(facts(bagging={}, boosting={})) is None


def test_the_family_is_a_row_each() -> None:
    row = {
        "name": "cascade",
        "latency_ms_batch_1": 1.5,
        "latency_ms_batch_64": 9.0,
        "size_mb": 0.2,
        "score": 0.9,
        "metric": "accuracy",
    }
    section = family(facts(family=[row | {"pareto": True}]))
    assert section is not None
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert table.rows == [["cascade", 1.5, 9.0, 0.2, 0.9, "yes"]]
    assert "validation accuracy" in table.columns


def test_bags_stand_beside_validation_and_test() -> None:
    one = {
        "parent": "t1", "members": ["a", "b"], "stopped": "enough", "rows": 10, "rows_without_estimate": 4,
        "out_of_bag": {"accuracy": 0.7}, "validation": {"accuracy": 0.8}, "test": {"accuracy": 0.75},
    }  # fmt: skip
    section = bags(facts(bagging={"bagged": one}, boosting={"members": ["a"], "stopped": "no mistake is left"}))
    assert section is not None
    table, bullets, text = section.blocks
    assert isinstance(table, Table) and table.rows == [["bagged", 2, 0.7, 0.8, 0.75]]
    assert isinstance(bullets, Bullets) and "4 of 10 training rows" in str(bullets)
    assert isinstance(text, Text) and "no mistake is left" in str(text)
