"""What an experiment resolves to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.config import DataSection
from orchestrator.errors import ConfigError, UserError
from orchestrator.experiment_file import load
from orchestrator.resolve import baseline_config, data_config, fixed_config, space_of
from search_spaces.space import Choice, Float, Int, draw
from trainables.config import TrainConfig
from trainables.data.dataset import DataConfig


class Given:
    """A trial that proposes a config's own values, if the space holds them."""

    def __init__(self, values: dict[str, object]) -> None:
        self.values = values

    def suggest_float(self, name: str, low: float, high: float, **_: object) -> float:
        value = self.values[name]
        assert isinstance(value, float)
        assert low <= value <= high
        return value

    def suggest_int(self, name: str, low: int, high: int, **_: object) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        assert low <= value <= high
        return value

    def suggest_categorical(self, name: str, choices: list[object]) -> object:
        assert self.values[name] in choices
        return self.values[name]


def test_the_data_section_is_the_data_config() -> None:
    assert set(DataSection.model_fields) == {field.name for field in dataclasses.fields(DataConfig)}
    found = data_config(load(None, ["data.limit=100", "data.channels=1"]))
    assert found == DataConfig(limit=100, channels=1)
    assert data_config(load(None)) == DataConfig()


def test_home_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    overrides = ["data.source=folder:~/photos", "data.root=~/r", "data.cache_dir=~/c", "train.weights=~/w.pth"]
    experiment = load(None, overrides, check_paths=False)
    data = data_config(experiment)
    assert (data.source, data.root, data.cache_dir) == (f"folder:{tmp_path}/photos", f"{tmp_path}/r", f"{tmp_path}/c")
    assert fixed_config(experiment)["weights"] == f"{tmp_path}/w.pth"


def test_a_weights_file_gets_its_absolute_path_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pth").touch()
    assert fixed_config(load(None, ["train.weights=w.pth"]))["weights"] == str(tmp_path / "w.pth")
    assert fixed_config(load(None, ["train.weights=default"]))["weights"] == "default"


def test_the_baseline_is_plain_unless_told_otherwise() -> None:
    plain = TrainConfig.from_dict(baseline_config(load(None, ["train={epochs: 3}", "baseline={}"])))
    assert (plain.augmentation, plain.dropout, plain.mixup, plain.label_smoothing, plain.epochs) == ("none", 0.0, 0.0, 0.0, 3)
    told = baseline_config(load(None, ["train.dropout=0.1", "train.lr=0.5", "baseline.lr=0.25", "seed=9"]))
    assert (told["dropout"], told["lr"], told["seed"]) == (0.1, 0.25, 9)


@pytest.mark.parametrize(
    "overrides",
    [[], ["search.space=finetune", "train.weights=default", "baseline={model: mobilenet_v2, finetune_depth: head}"]],
    ids=["scratch", "finetune"],
)
def test_the_default_baseline_is_a_point_of_the_space(overrides: list[str]) -> None:
    experiment = load(None, overrides)
    baseline = baseline_config(experiment)
    assert draw(space_of(experiment), Given(baseline)).items() <= baseline.items()


def test_the_space_is_narrowed_by_forbid_and_diagnosis() -> None:
    experiment = load(None)
    (sets,) = [d.options for d in space_of(experiment).dimensions if isinstance(d, Choice) and d.name == "augmentation"]
    assert "crop_flip" not in sets
    diagnosis = {"recommended": ["blur"], "forbidden": ["translate"]}
    (sets,) = [
        d.options for d in space_of(experiment, diagnosis).dimensions if isinstance(d, Choice) and d.name == "augmentation"
    ]
    assert sets == ("blur_noise", "none")


def test_regression_has_no_knobs_of_classes() -> None:
    names = {
        d.name for d in space_of(load(None, ["data.task=regression", "search.metric=rmse", "ensemble.metric=rmse"])).dimensions
    }
    assert {"lr", "model"} <= names
    assert not {"mixup", "label_smoothing"} & names
    assert (
        fixed_config(load(None, ["data.task=regression", "search.metric=rmse", "ensemble.metric=rmse"]))["task"] == "regression"
    )


def test_a_space_of_ones_own_is_held_to_the_fields_of_training(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: mine\nconstants: {modle: cnn_a}\n"
        "dimensions:\n  dropout: {float: [0, 2]}\n  optimizer: {choice: [adamw, rmsprop]}\n  width: {int: [0, 8]}\n"
        "  augmentation: {choice: [none, flips]}\n  lr: {float: [1e-4, 1e-2]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        space_of(load(None, [f"search.space={tmp_path / 's.yaml'}"]))
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for part in ("modle: unknown key", "dropout: got 2", "optimizer: got 'rmsprop'", "width: got 0", "did you mean 'flip'"):
        assert part in said


def test_a_good_space_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "s.yml").write_text("dimensions:\n  lr: {float: [1e-4, 1], log: true}\n  width: {int: [1, 8]}\n")
    space = space_of(load(None, [f"search.space={tmp_path / 's.yml'}"]))
    assert space.dimensions == (Float("lr", 1e-4, 1, log=True), Int("width", 1, 8))


def test_an_unknown_diagnosis_word_is_said() -> None:
    with pytest.raises(UserError, match="search.space: .*'blurr'"):
        space_of(load(None), {"recommended": ["blurr"]})


def test_a_model_that_nobody_knows_is_named_before_anything_is_trained() -> None:
    with pytest.raises(UserError, match=r"baseline: model: got 'resnet81', allowed: cnn_a, .*did you mean"):
        baseline_config(load(None, ["baseline.model=resnet81"]))
