"""Samples: chosen a class in turn, written as they are stored, and predicted by the bundle as the members predict them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from orchestrator.errors import UserError
from orchestrator.stages.export import run_export
from orchestrator.stages.predict import one_a_class_in_turn, run_predict
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import read_json
from tests.orchestrator.stages.conftest import Run


def test_one_a_class_in_turn() -> None:
    assert one_a_class_in_turn(np.array([2, 2, 0, 1, 0, 2]), 5) == [2, 3, 0, 4, 1]
    assert one_a_class_in_turn(np.array([1, 1]), 9) == [0, 1]


def test_samples_are_the_test_images_and_the_bundle_says_what_the_members_say(bagged_run: Run) -> None:
    context = bagged_run.context
    workspace = context.workspace
    with pytest.raises(UserError, match="export"):
        run_predict(context)
    run_export(context)
    rows = run_predict(context)
    assert read_json(workspace.samples / "predictions.json") == rows and len(rows) == 10
    assert [row["target"] for row in rows] == [str(digit) for digit in range(10)]
    test = context.splits().test
    order = one_a_class_in_turn(test.targets, 10)
    bank, chosen = PredictionBank(workspace), bagged_run.found["ensemble"]
    for row, index in zip(rows, order, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(row["path"])), test.images[index].squeeze())
    members = [m["weight"] * tempered(bank.get(m["trial_id"], "test")[order], m["temperature"]) for m in chosen["members"]]
    wanted = tempered(np.sum(members, axis=0), chosen["temperature"])
    said = np.array([[row["probabilities"][str(digit)] for digit in range(10)] for row in rows])
    np.testing.assert_allclose(said, wanted, atol=5e-3)  # the bank holds float16


def tempered(probs_NC: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    powered = np.asarray(probs_NC, dtype=np.float64) ** (1 / temperature)
    scaled: NDArray[np.float64] = powered / powered.sum(axis=1, keepdims=True)
    return scaled


def test_a_registry_that_fails_costs_a_line_and_nothing_else(bagged_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.stages import export

    said: list[str] = []
    context = type(bagged_run.context)(
        bagged_run.context.experiment, bagged_run.context.workspace, bagged_run.context.tracker, said.append
    )
    monkeypatch.setattr("orchestrator.tracking.resolve_uri", lambda _: "http://127.0.0.1:9")
    monkeypatch.setattr("orchestrator.deliver.mlflow_model.register", _refuse)
    assert export.run_export(context).is_dir()
    assert any("not registered: connection refused" in line for line in said)


def _refuse(*_: object, **__: object) -> Path:
    raise ConnectionError("connection refused\nand more")
