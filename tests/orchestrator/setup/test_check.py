"""The report before a run: with and without measuring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.setup.check import check, describe
from search_spaces.dimensions import Choice, Float, Int, When
from search_spaces.space import from_dict

SMALL = """\
dimensions:
  model: {choice: [cnn_a, cnn_b]}
  lr: {float: [1e-4, 1e-2], log: true}
"""


@pytest.fixture
def small_space(tmp_path: Path) -> str:
    (tmp_path / "space.yaml").write_text(SMALL)
    return f"search.space={tmp_path / 'space.yaml'}"


def test_without_measuring_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.setup.check.load_data", lambda _: pytest.fail("loaded"))
    report = check(load(None), measure=False)
    page = str(report)
    for part in ("source: digits", "space scratch: ", "when optimizer is sgd", "12 trials of up to 15 epochs", "not measured"):
        assert part in page
    assert report.cost.seconds is None


def test_measured_on_this_machine(small_space: str) -> None:
    report = check(load(None, [small_space, "data.limit=120", "search.trials=9", "train.epochs=4"]))
    measured = report.cost.measured
    assert measured is not None
    assert measured.baseline_seconds > 0
    assert measured.weights_mb == pytest.approx(0.1, abs=0.09)
    page = str(report)
    for part in ("train, ", "10 classes: 0, 1", "fingerprint", "an epoch takes", "training takes about", "disk about"):
        assert part in page
    found = json.loads(json.dumps(report.to_dict()))
    assert from_dict(found["space"]) == report.space
    assert found["space_size"] == {"dimensions": 2, "grid_of_three": 6}
    assert found["cost"]["seconds"]["low"] <= found["cost"]["seconds"]["likely"] <= found["cost"]["seconds"]["high"]


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        (["train.finetune_depth=head"], ["baseline", "train"]),
        (["baseline.finetune_depth=last_1"], ["baseline"]),
        (["baseline={model: resnet18, weights: default, finetune_depth: head}"], []),
        (
            ["train={model: resnet18, weights: default, finetune_depth: head}", "baseline={model: cnn_b, weights: none}"],
            ["baseline"],
        ),
    ],
)
def test_layers_that_stay_untrained_are_warned_of(small_space: str, values: list[str], warned: list[str]) -> None:
    warnings = check(load(None, [small_space, *values]), measure=False).warnings
    assert [warning.partition(".finetune_depth: ")[0] for warning in warnings if "never trained" in warning] == warned


def test_warnings(small_space: str) -> None:
    base = [small_space, "search.forbid=[]", "data.limit=120", "train.lr=0.1"]
    warnings = "\n".join(check(load(None, base)).warnings)
    assert "train.lr: the space 'own' draws it" in warnings
    assert "search.forbid: the classes look like digits" in warnings
    grid = check(load(None, [small_space, "search.algorithm=grid", "search.trials=3"]), measure=False)
    assert "the grid has 6 configurations, search.trials allows 3" in "\n".join(grid.warnings)
    assert check(load(None, [small_space]), measure=False).warnings == ()


def test_a_space_of_one_point_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("constants: {lr: 0.1}\n")
    (warning,) = check(load(None, [f"search.space={tmp_path / 'one.yaml'}"]), measure=False).warnings
    assert "one single configuration" in warning


def test_a_model_that_is_not_there_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="cnn_z"):
        check(load(None, ["baseline.model=cnn_z", "data.limit=120"]))


def test_dimensions_in_words() -> None:
    assert describe(Float("lr", 1e-4, 0.1, log=True)) == "lr               0.0001 to 0.1, log"
    assert describe(Int("width", 8, 24, step=8)) == "width            8 to 24, steps of 8"
    choice = Choice("nesterov", (True, False), When("optimizer", ("sgd", "x")))
    assert describe(choice) == "nesterov         true, false   when optimizer is sgd or x"
