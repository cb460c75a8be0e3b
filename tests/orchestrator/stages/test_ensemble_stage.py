"""The ensemble stage on a real run: what it says is what the files of the run give when computed by another road."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.stages.ensemble import run_ensemble
from orchestrator.stages.fitting import Fitting
from orchestrator.store.predictions import PredictionBank
from trainables.config import TrainConfig
from trainables.data import load_splits
from trainables.data.rows import draw_rows


def row(found: dict[str, Any], name: str, table: str = "judgement") -> dict[str, Any]:
    return next(row for row in found[table]["rows"] if row["name"] == name)


def test_every_control_of_this_run_is_a_row(bagged_run: Any) -> None:
    names = {row["name"] for row in bagged_run.found["judgement"]["rows"]}
    assert {"ensemble", "best single", "best single + TTA", "bagged", "boosted", "cascade", "uniform top-k"} <= names
    assert names == {row["name"] for row in bagged_run.found["validation"]["rows"]}


def test_the_ensemble_row_is_the_stored_ensemble_on_the_test_split(bagged_run: Any) -> None:
    bank, stored = PredictionBank(bagged_run.context.workspace), bagged_run.found["ensemble"]
    ensemble = Ensemble.from_json({**stored, "members": list(range(len(stored["member_ids"])))})
    probs = ensemble.combine([bank.get(i, "test") for i in ensemble.member_ids]).astype(float)
    probs /= probs.sum(axis=1, keepdims=True)
    labels = bank.targets("test")
    judged = row(bagged_run.found, "ensemble")
    assert judged["accuracy"] == pytest.approx(accuracy_score(labels, probs.argmax(axis=1)))
    assert judged["log_loss"] == pytest.approx(log_loss(labels, probs, labels=np.arange(10)), rel=1e-3)


def test_out_of_bag_estimate_is_the_mean_of_those_who_did_not_see_a_row(bagged_run: Any) -> None:
    context, bags = bagged_run.context, bagged_run.found["bagging"]["bagged"]
    bank, train = PredictionBank(context.workspace), load_splits(context.data).train
    assert 3 <= len(bags["members"]) <= 4
    fitted = Fitting.of(context).given(bags["members"], "bagged").temperatures
    temperature = dict(zip(bags["members"], fitted, strict=True))
    hits, without = [], []
    for n in range(len(train)):
        outside = [m for m in bags["members"] if n not in set(_rows(context.workspace.load_record(m).config, train.targets))]
        if not outside:
            without.append(train.ids[n])
            continue
        powers = [np.maximum(bank.get(m, "train")[n].astype(float), 2.0**-24) ** (1 / temperature[m]) for m in outside]
        mean = np.mean([power / power.sum() for power in powers], axis=0)
        hits.append(mean.argmax() == train.targets[n])
    assert bags["rows_without_estimate"] == len(without)
    assert bags["named_without_estimate"] == without[:20]
    assert bags["out_of_bag"]["accuracy"] == pytest.approx(np.mean(hits))
    assert bags["test"]["accuracy"] == row(bagged_run.found, "bagged")["accuracy"]
    assert bags["mean_voters"] == pytest.approx(len(bags["members"]) * 0.368, rel=0.15)


def _rows(config: dict[str, Any], targets: Any) -> Any:
    return draw_rows(targets, rows="bootstrap", seed=TrainConfig.from_dict(config).row_seed)


def test_boosting_trains_its_stage_on_rows_that_were_wrong_more_often(bagged_run: Any) -> None:
    context, boosting = bagged_run.context, bagged_run.found["boosting"]
    parent, *later = boosting["members"]
    assert context.workspace.load_record(parent).kind in ("trial", "baseline")
    assert all(context.workspace.load_record(member).kind == "boost" for member in later)
    assert len(boosting["weights"]) == len(boosting["members"]) == row(bagged_run.found, "boosted")["members"]
    train = load_splits(context.data).train
    rows = np.load(context.workspace.rows(f"{parent}-boost1"))
    wrong = PredictionBank(context.workspace).get(parent, "train").argmax(axis=1) != train.targets
    error = boosting["weighted_errors"][0]
    assert error == pytest.approx(wrong.mean())
    raised = np.exp(boosting["weights"][0])
    expected = wrong.sum() * raised / (wrong.sum() * raised + (~wrong).sum())
    assert wrong[rows].mean() == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(rows)))


def test_a_pool_says_what_diversity_is_worth(bagged_run: Any) -> None:
    found = bagged_run.found["diversity"]
    assert found["log_loss_of_the_weighted_mean"] == pytest.approx(found["mean_log_loss_of_members"] - found["ambiguity"])
    assert found["mean_error_of_members"] == pytest.approx(np.mean(found["error_rates"]))
    assert 0 <= found["majority_error_if_independent"] <= 1
    assert "mean_error_correlation" in found


def test_what_the_calibration_changed_is_told_of_the_test_split(bagged_run: Any) -> None:
    found, judged = bagged_run.found["calibration"], row(bagged_run.found, "ensemble")
    assert (found["method"], found["split"]) == ("temperature", "test")
    assert found["after"] == {key: judged[key] for key in ("log_loss", "brier", "ece")}
    bank, ensemble = PredictionBank(bagged_run.context.workspace), bagged_run.found["ensemble"]
    mean = sum(w * bank.get(m, "test") for m, w in zip(ensemble["member_ids"], ensemble["weights"], strict=True))
    true = mean[np.arange(len(mean)), bank.targets("test")]
    assert found["before"]["log_loss"] == pytest.approx(-np.log(true).mean(), rel=1e-4)


def test_figures_show_members_side_by_side(bagged_run: Any) -> None:
    folder: Path = bagged_run.context.workspace.figures / "ensemble"
    names = {path.stem for path in folder.glob("*.png")}
    assert {"controls", "reliability", "disagreement", "accuracy_diversity", "contested"} <= names


def test_the_stage_again_trains_nothing_and_says_the_same(bagged_run: Any) -> None:
    ledger = bagged_run.context.workspace.ledger.read_bytes()
    again = run_ensemble(bagged_run.context)
    assert bagged_run.context.workspace.ledger.read_bytes() == ledger
    for key in ("judgement", "validation", "ensemble", "bagging", "boosting", "diversity"):
        assert again[key] == bagged_run.found[key]
