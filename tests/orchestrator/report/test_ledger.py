"""The ledger against scipy's bootstrap, the closed form, and the judgement's table turned round by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from orchestrator.report.ledger import Step, changed_knobs, from_judgement, improving, ledger, search_ledger
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace


def model(seed: int, labels: np.ndarray, skill: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3)) + skill * np.eye(3)[labels]
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


LABELS = np.random.default_rng(0).integers(0, 3, 500)


def steps() -> list[Step]:
    return [Step("baseline", "plain", model(1, LABELS, 1.0)), Step("best single", "lr", model(2, LABELS, 1.5))]


def test_scores_are_means_and_json_ready() -> None:
    first, second = ledger(steps(), LABELS, split="test", seed=0)
    probabilities = steps()[1].predictions
    assert second["scores"]["accuracy"][0] == pytest.approx((probabilities.argmax(1) == LABELS).mean())
    assert second["scores"]["log_loss"][0] == pytest.approx(-np.log(probabilities[np.arange(500), LABELS]).mean())
    assert first["deltas"] == {} and (first["step"], first["split"], first["n"]) == ("baseline", "test", 500)
    assert json.loads(json.dumps([first, second])) == [first, second]


def test_difference_and_interval_agree_with_scipys_paired_bootstrap() -> None:
    _, second = ledger(steps(), LABELS, split="test", seed=0)
    before, after = ((s.predictions.argmax(1) == LABELS).astype(float) for s in steps())
    expected = bootstrap((after - before,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
    value, low, high = second["deltas"]["accuracy"]
    assert value == pytest.approx(after.mean() - before.mean())
    interval = expected.confidence_interval
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.006)


def test_a_step_that_changes_nothing_is_worth_exactly_nothing() -> None:
    same = steps()[0]
    _, second = ledger([same, Step("again", "nothing", same.predictions)], LABELS, split="val", seed=0)
    assert second["deltas"] == {"accuracy": [0, 0, 0], "log_loss": [0, 0, 0]}


def test_regression_uses_root_mean_squares() -> None:
    targets = np.random.default_rng(3).normal(size=200)
    off = np.random.default_rng(4).normal(size=200)
    rows = ledger(
        [Step("a", "", (targets + 2 * off)[:, None]), Step("b", "", (targets + off)[:, None])], targets, split="test", seed=0
    )
    assert rows[1]["scores"]["rmse"][0] == pytest.approx(np.sqrt((off**2).mean()))
    assert rows[1]["deltas"]["rmse"][0] == pytest.approx(-np.sqrt((off**2).mean()))
    assert rows[1]["deltas"]["rmse"][2] < 0


def test_from_the_judgements_table() -> None:
    found = {
        "ensemble": {"members": [{}, {}, {}], "method": "greedy", "voting": "soft"},
        "judgement": {
            "split": "test",
            "n": 100,
            "rows": [
                {"name": "ensemble", "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "accuracy_difference": 0.02,
                 "accuracy_difference_low": 0.01, "accuracy_difference_high": 0.03},
                {"name": "best single", "accuracy": 0.88},
                {"name": "baseline", "accuracy": 0.8, "accuracy_difference": -0.08, "accuracy_difference_low": -0.1,
                 "accuracy_difference_high": -0.05},
            ],
        },
    }  # fmt: skip
    baseline, single, ensemble = from_judgement(found, {})
    assert baseline["deltas"] == {} and baseline["scores"] == {"accuracy": [0.8, None, None]}
    assert single["deltas"] == {"accuracy": [0.08, 0.05, 0.1]}
    assert ensemble["deltas"] == {"accuracy": [0.02, 0.01, 0.03]} and ensemble["scores"]["accuracy"] == [0.9, 0.8, 0.95]
    assert ensemble["changed"] == "3 members, greedy, soft vote"
    assert from_judgement({}, {}) == []


def record(trial_id: str, accuracy: float, *, kind: str = "trial", **config: object) -> MemberRecord:
    return MemberRecord(
        trial_id, kind, "image", config, 0, "c", "f", "finished", best_epoch=1, metrics={"val/accuracy": accuracy}
    )


def test_search_ledger_keeps_the_trials_that_led(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    bank = PredictionBank(workspace)
    assert search_ledger(workspace, [], "accuracy", seed=0) == []
    bank.put_targets("val", LABELS, [str(i) for i in range(500)], "f")
    records = []
    for number, (skill, lr) in enumerate([(1.0, 0.1), (1.5, 0.2), (0.5, 0.3), (2.5, 0.4)]):
        trial_id, kind = ("baseline", "baseline") if number == 0 else (f"t{number}", "trial")
        probabilities = model(number, LABELS, skill).astype(np.float32)
        bank.put(trial_id, "val", probabilities)
        accuracy = float((probabilities.argmax(1) == LABELS).mean())
        records.append(record(trial_id, accuracy, kind=kind, lr=lr, seed=number))
    rows = search_ledger(workspace, records[::-1], "accuracy", seed=0)
    assert [row["step"] for row in rows] == ["baseline", "t1", "t3"]
    assert [row["changed"] for row in rows] == ["first", "lr 0.1 -> 0.2", "lr 0.2 -> 0.4"]
    assert rows[2]["deltas"]["accuracy"][0] == pytest.approx(
        records[3].score("accuracy") - records[1].score("accuracy"), abs=2e-3
    )


def test_improving_ignores_nan_and_knows_which_way_is_up() -> None:
    values = [float("nan"), 3.0, 2.0, 4.0, 4.0, 1.0]
    records = [record(str(i), value) for i, value in enumerate(values)]
    assert [r.trial_id for r in improving(records, lambda r: r.score("accuracy"), lower=False)] == ["1", "3"]
    assert [r.trial_id for r in improving(records, lambda r: r.score("accuracy"), lower=True)] == ["1", "2", "5"]


def test_changed_knobs_in_words() -> None:
    assert (
        changed_knobs({"lr": 0.1, "model": "a", "seed": 0}, {"lr": 0.00123456, "model": "a", "seed": 1}) == "lr 0.1 -> 0.00123"
    )
    assert changed_knobs({"lr": 0.1}, {"lr": 0.1, "seed": 3}) == "another seed"
