"""The distilled student: trained towards the ensemble's answers, in the family and the table, and never a candidate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.context import open_run
from orchestrator.stages.ensemble import run_ensemble
from orchestrator.stages.export import run_export
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.student import NAME
from orchestrator.store.predictions import PredictionBank


def test_a_student_is_judged_measured_and_exported_but_chooses_nothing(
    bagged_run: Any, tmp_path: Path, small_experiment: Any
) -> None:
    asked = {"refit": {"mode": "bootstrap", "members": 4}, "boost_rounds": 1, "student": True}
    experiment = small_experiment(tmp_path, "bagged", **asked)
    shutil.copytree(bagged_run.context.workspace.root, experiment.run_path)
    said: list[str] = []
    with open_run(experiment, said.append) as context:
        found = run_ensemble(context)
        assert any("(convex, certified within" in line for line in said)
        assert found["ensemble"] == bagged_run.found["ensemble"], "the choice is the same with a student as without"
        (relative,) = [row for row in found["family"] if row["name"] == NAME]
        (trial_id,) = relative["ensemble"]["member_ids"]
        record = context.workspace.load_record(trial_id)
        best = Fitting.of(context).parents()[0]
        assert (record.kind, record.parent) == ("student", best.trial_id)
        assert trial_id not in {one.trial_id for one in Fitting.of(context).candidates()}
        assert relative["latency_ms_batch_1"] > 0 and relative["size_mb"] > 0
        (judged,) = [row for row in found["judgement"]["rows"] if row["name"] == NAME]
        assert judged["members"] == 1
        _check_teacher(context, found["ensemble"], trial_id)
        ledger = context.workspace.ledger.read_bytes()
        assert run_ensemble(context)["judgement"] == found["judgement"]
        assert context.workspace.ledger.read_bytes() == ledger, "a student of the same answers is not trained again"
        limit = max(row["latency_ms_batch_1"] for row in found["family"]) + 1
        assert run_export(context, max_latency=f"{limit:.0f}ms").is_dir()


def _check_teacher(context: Any, ensemble: dict[str, Any], trial_id: str) -> None:
    """Compare the file with the members' answers, combined by hand."""
    bank = PredictionBank(context.workspace)
    taught = np.load(context.workspace.teacher(trial_id))
    pooled = np.zeros(taught.shape)
    for member in ensemble["members"]:
        powers = np.maximum(bank.get(member["trial_id"], "train").astype(float), 2.0**-24) ** (1 / member["temperature"])
        pooled += member["weight"] * powers / powers.sum(axis=1, keepdims=True)
    pooled = np.maximum(pooled, 2.0**-24) ** (1 / ensemble["temperature"])
    pooled /= pooled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(taught, pooled, atol=1e-4)
