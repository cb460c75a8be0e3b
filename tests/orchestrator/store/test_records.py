"""Records travel as JSON, know which of them may join an ensemble, and rank by the best kept epoch."""

from __future__ import annotations

import json
import math

import pytest

from orchestrator.store.records import MemberRecord, mode_of, ranked


def record(trial_id: str, **changes: object) -> MemberRecord:
    base = {
        "trial_id": trial_id, "kind": "trial", "trainable": "image", "config": {"lr": 0.1}, "seed": 0, "config_hash": "h",
        "data_fingerprint": "f", "status": "finished", "best_epoch": 2, "metrics": {"val/accuracy": 0.9, "val/log_loss": 0.3},
    }  # fmt: skip
    return MemberRecord.from_dict(base | changes)


def test_round_trip_through_json() -> None:
    first = record("a", parent="b", seconds=1.5)
    assert MemberRecord.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_newer_format_is_refused() -> None:
    with pytest.raises(ValueError, match="reads up to 1"):
        record("a", version=2)


def test_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="status 'gone'"):
        record("a", status="gone")


def test_ranking_follows_the_metric_and_leaves_out_the_unusable() -> None:
    records = [
        record("a", metrics={"val/accuracy": 0.8, "val/log_loss": 0.2}),
        record("b", metrics={"val/accuracy": 0.9, "val/log_loss": 0.4}),
        record("c", status="failed"),
        record("d", best_epoch=0),
        record("e", metrics={}),
        record("f", status="stopped", metrics={"val/accuracy": 0.9, "val/log_loss": 0.1}),
    ]
    assert [r.trial_id for r in ranked(records, "accuracy")] == ["f", "b", "a"], "of equal ones the lower log-loss"
    twins = [record("b", metrics={"val/accuracy": 0.9}), record("a", metrics={"val/accuracy": 0.9})]
    assert [r.trial_id for r in ranked(twins, "accuracy")] == ["a", "b"]
    assert [r.trial_id for r in ranked(records, "log_loss")] == ["f", "a", "b"]
    assert math.isnan(records[4].score("accuracy"))


def test_modes() -> None:
    assert mode_of("accuracy") == "max"
    assert mode_of("rmse") == "min"
