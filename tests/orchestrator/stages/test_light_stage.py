"""Light classifiers in a run: fitted where there are weights to stand on, then a candidate and exported like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from orchestrator.config import Experiment
from orchestrator.context import Context, open_run
from orchestrator.deliver.export import export_bundle
from orchestrator.deliver.runtime import Runtime
from orchestrator.stages.baseline import run_baseline
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.light import LIGHT_ID, light_spec, run_light
from orchestrator.store.predictions import PredictionBank
from tests.orchestrator.stages.conftest import Run


@pytest.fixture(scope="module")
def pretrained(bagged_run: Run, stage_folder: Path, small_experiment: Callable[..., Experiment]) -> Experiment:
    """An experiment that starts from the weights of an earlier run."""
    values = small_experiment(stage_folder, "light").model_dump(mode="json")
    values["train"] |= {"weights": str(bagged_run.context.workspace.weights("baseline")), "finetune_depth": "head"}
    return Experiment.model_validate(values, strict=False)


def test_no_weights_no_wish_no_classes_no_light(pretrained: Experiment) -> None:
    values = pretrained.model_dump(mode="json")
    assert light_spec(pretrained) is not None
    for section, change, reason in (
        ("train", {"weights": "none"}, "it needs pretrained weights"),
        ("search", {"light": False}, "search.light is false"),
        ("data", {"task": "regression"}, "it needs classes"),
    ):
        own = {**values, section: {**values[section], **change}}
        if section == "data":
            own |= {name: {**values[name], "metric": "rmse"} for name in ("search", "ensemble")}
        changed = Experiment.model_validate(own, strict=False)
        said: list[str] = []
        assert light_spec(changed) is None
        assert run_light(cast("Context", SimpleNamespace(experiment=changed, say=said.append))) is None
        assert said == [f"light: nothing to do ({reason})"]


def test_it_joins_the_pool_and_is_served_like_any_other(pretrained: Experiment) -> None:
    said: list[str] = []
    with open_run(pretrained, said.append) as context:
        run_baseline(context)
        record = run_light(context)
        assert record is not None and (record.kind, record.trainable, record.epochs_run) == ("light", "light", 6)
        assert any(line.startswith("light: ") and "on frozen features" in line for line in said)
        assert run_light(context) == record, "a finished one is kept"
        fitting, workspace, splits = Fitting.of(context), context.workspace, context.splits()
        assert LIGHT_ID in {one.trial_id for one in fitting.candidates()}
        assert LIGHT_ID not in {one.trial_id for one in fitting.parents()}, "another seed would give the same classifier"
        member = {"trial_id": LIGHT_ID, "weight": 1.0, "temperature": 1.0}
        bundle = export_bundle(
            [(record, workspace.weights(LIGHT_ID))], {"voting": "soft", "members": [member], "temperature": 1.0},
            splits, workspace.bundle,
        )  # fmt: skip
        served = Runtime(bundle).probabilities(splits.val.images)
        np.testing.assert_allclose(served, PredictionBank(workspace).get(LIGHT_ID, "val"), atol=2e-3)  # the bank is float16
        accuracy = float((served.argmax(axis=1) == splits.val.targets).mean())
        assert accuracy == pytest.approx(record.metrics["val/accuracy"], abs=0.03)
