"""Loading: the built-in digits, overrides, stored experiments, and the examples of this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config import Experiment
from orchestrator.errors import ConfigError, UserError
from orchestrator.experiment_file import load, override, read_space
from search_spaces.space import RandomTrial, draw
from trainables.config import TrainConfig

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_without_a_file_it_is_the_digits() -> None:
    experiment = load(None)
    assert (experiment.name, experiment.data.source, experiment.search.space) == ("digits", "digits", "scratch")
    assert {"hflip", "rotate180"} <= set(experiment.search.forbid)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("# nothing\nsearch:\n  # trials: 3\ntrain:\nensemble:\n  refit:\n")
    assert load(tmp_path / "e.yaml") == Experiment()


def test_overrides_are_yaml_values_put_over_the_file() -> None:
    experiment = load(
        None,
        ["search.trials=20", "search.forbid=[vflip]", "train.lr=1e-3", "ensemble.refit.top=2", "tracking.uri=none", "name=no"],
    )
    assert experiment.search.trials == 20
    assert experiment.search.forbid == ("vflip",)
    assert experiment.train["lr"] == 0.001
    assert experiment.train["epochs"] == load(None).train["epochs"]
    assert experiment.ensemble.refit.top == 2
    assert (experiment.tracking.uri, experiment.name) == ("none", "no")


@pytest.mark.parametrize("word", ["on", "off", "true", "false", "auto", "'on'"])
def test_compile_is_a_word_whatever_yaml_makes_of_it(word: str) -> None:
    experiment = load(None, [f"train.compile={word}"])
    expected = {"true": "on", "false": "off"}.get(word, word.strip("'"))
    assert TrainConfig.from_dict(experiment.train).compile == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search.trails=3", "override 'search.trails=3': search.trails: unknown key (got 3); did you mean 'trials'?"),
        ("search.trials=many", "override 'search.trials=many': search.trials: got 'many', allowed: a whole number"),
        ("trials", "override 'trials': expected KEY=VALUE"),
        ("=3", "override '=3': expected KEY=VALUE"),
        ("search..trials=3", "override 'search..trials=3': expected KEY=VALUE"),
        ("search.forbid=[a", "override 'search.forbid=[a':1: expected"),
        (
            "train.channels_last=true",
            "override 'train.channels_last=true': train.channels_last: unknown key (got True); it is called memory_format now",
        ),
        ("train.droput=1", "override 'train.droput=1': train.droput: unknown key (got 1); did you mean 'dropout'?"),
        ("search.trials.x=1", "override 'search.trials.x=1': search.trials: got {'x': 1}"),
    ],
)
def test_wrong_overrides_say_so(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [text])
    assert caught.value.problems[0].startswith(said)
    assert isinstance(caught.value, UserError)


def test_a_stored_experiment_takes_overrides_and_is_checked_again() -> None:
    stored = load(None, ["search.trials=7"])
    assert override(stored, []) is stored
    assert override(stored, ["seed=3"]) == stored.model_copy(update={"seed": 3})
    with pytest.raises(ConfigError, match="override 'seed=x': seed: got 'x'"):
        override(stored, ["seed=x"])


def test_the_door_stays_light() -> None:
    heavy = "{'torch', 'torchvision', 'ray', 'mlflow', 'optuna'}"
    code = f"import sys; from orchestrator.experiment_file import load; load(None); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "path", sorted(p for p in EXAMPLES.glob("*.yaml") if not p.stem.startswith("space")), ids=lambda p: p.stem
)
def test_examples_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    experiment = load(path, check_paths=False)
    assert experiment.search.trials >= 8


def test_the_digits_example_is_the_built_in_experiment() -> None:
    assert load(EXAMPLES / "digits.yaml") == load(None)


@pytest.mark.parametrize("name", ["space.py", "space.yaml"])
def test_example_spaces_draw(name: str) -> None:
    from trainables.config import TrainConfig

    for seed in range(50):
        TrainConfig.from_dict(draw(read_space(str(EXAMPLES / name)), RandomTrial(seed)))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.yaml", "dimensions:\n  lr: {float: [1, 0]}", "lr: low 1 is above high 0"),
        ("s.yaml", "dimensions: [1", "s.yaml:1: expected"),
        ("s.py", "1 / 0", "ZeroDivisionError"),
        ("s.py", "x = 1", "must set SPACE"),
    ],
)
def test_broken_spaces_are_the_users_mistake(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_space(str(tmp_path / name))


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_a_file_without_a_key_is_refused_and_not_the_demo(tmp_path: Path, text: str) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="no key in it; `orchestrate init DATA`"):
        load(file)
