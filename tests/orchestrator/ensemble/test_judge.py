"""The table of an ensemble and its controls."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensemble.build import EnsembleSpec, fit_controls, fit_ensemble
from orchestrator.ensemble.judge import judge
from orchestrator.ensemble.metrics import METRICS, wilson_interval


@pytest.fixture
def case(make_pool):
    probs, labels = make_pool(9, 1200, 4, seed=0)
    ids = [f"t{m}" for m in range(9)]
    spec, val = EnsembleSpec(folds=0, max_members=4), slice(0, 600)
    ensemble = fit_ensemble(probs[:, val], labels[val], spec=spec, member_ids=ids, seed=0)
    controls = fit_controls(probs[:, val], labels[val], ensemble=ensemble, spec=spec, member_ids=ids, baseline_id="t3", seed=0)
    return ensemble, controls, dict(zip(ids, probs[:, 600:], strict=True)), labels[600:]


def test_rows_hold_scores_of_what_each_candidate_combines_to(case):
    ensemble, controls, predictions, labels = case
    table = judge(ensemble, controls, predictions, labels, seed=0)
    assert [row.name for row in table.rows] == ["ensemble", *controls]
    for name, candidate in {"ensemble": ensemble, **controls}.items():
        out = candidate.combine([predictions[m] for m in candidate.member_ids])
        row = table.row(name)
        assert row.n_members == len(candidate.members)
        for metric in ("accuracy", "log_loss", "brier", "ece"):
            assert row.scores[metric] == pytest.approx(METRICS[metric].function(out, labels))
        assert row.accuracy_interval == wilson_interval(round(row.scores["accuracy"] * 600), 600)
    assert table.row("best single").differences == {}
    found = table.row("ensemble").differences["accuracy"]
    assert found.value == pytest.approx(table.row("ensemble").scores["accuracy"] - table.row("best single").scores["accuracy"])
    assert (table.verdict.difference, table.verdict.low, table.verdict.high) == found
    assert table.verdict.verdict == "gain"


def test_missing_predictions_skip_a_control_but_never_the_ensemble(case):
    ensemble, controls, predictions, labels = case
    needed = {*ensemble.member_ids, *controls["best single"].member_ids}
    some = {name: probs for name, probs in predictions.items() if name in needed}
    table = judge(ensemble, controls, some, labels, seed=0)
    assert "uniform all" in table.skipped
    assert {row.name for row in table.rows} | set(table.skipped) == {"ensemble", *controls}
    with pytest.raises(ValueError, match="predictions of every member"):
        judge(ensemble, controls, {}, labels, seed=0)
    without = {name: control for name, control in controls.items() if name != "best single"}
    with pytest.raises(ValueError, match="'best single'"):
        judge(ensemble, without, predictions, labels, seed=0)


def test_ready_predictions_make_rows_of_their_own(case):
    ensemble, controls, predictions, labels = case
    perfect = np.eye(4)[labels]
    row = judge(ensemble, controls, predictions, labels, seed=0, extra={"best single + TTA": perfect}).row("best single + TTA")
    assert row.scores["accuracy"] == 1.0
    assert row.differences["accuracy"].low > 0


def test_json_is_plain_and_flat(case):
    ensemble, controls, predictions, labels = case
    stored = json.loads(json.dumps(judge(ensemble, controls, predictions, labels, seed=0).to_json(), allow_nan=False))
    first = stored["rows"][0]
    assert {"name", "n_members", "accuracy", "accuracy_low", "accuracy_high", "log_loss", "ece", "brier"} <= set(first)
    assert first["accuracy_difference_low"] <= first["accuracy_difference"] <= first["accuracy_difference_high"]
    assert stored["verdict"]["recommended"] == "ensemble"
    assert stored["n_rows"] == 600


def test_the_verdict_follows_the_users_metric(case):
    ensemble, controls, predictions, labels = case
    by_loss = judge(replace(ensemble, metric="log_loss"), controls, predictions, labels, seed=0)
    assert by_loss.verdict.metric == "log_loss"
    assert by_loss.verdict.difference < 0
    assert by_loss.verdict.verdict == "gain"
