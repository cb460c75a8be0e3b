"""Every wrong value of an experiment file is named with its line, what came and what is allowed, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.experiment_file import load
from orchestrator.experiment_file.problems import knob_problem, nearest

WRONG = """\
name: a b
seed: -1
data:
  image_size: big
  chanels: 3
  val_fraction: 0.95
train:
  lr: fast
  drop_out: 0.2
  dropout: 1.5
  epochs: 0
  augmentation: flips
search:
  trials: 12.5
  scheduler: hyper-band
  forbid: [hflip, 3]
  seed_baseline: no
ensemble:
  refit:
    mode: seed
    top: 0
tracking: hello
frob: 1
"""
SAID = {
    1: ("name", "'a b'", "text that matches"),
    2: ("seed", "-1", "a whole number at least 0 and below 2147483648"),
    4: ("data.image_size", "'big'", "a whole number at least 0 and at most 4096"),
    5: ("data.chanels", "3", "did you mean 'channels'?"),
    6: ("data.val_fraction", "0.95", "a number above 0 and below 0.9"),
    8: ("train.lr", "'fast'", "expected float"),
    9: ("train.drop_out", "0.2", "did you mean 'dropout'?"),
    10: ("train.dropout", "1.5", "0.0 to 0.95"),
    11: ("train.epochs", "0", "1 to 100000"),
    12: ("train.augmentation", "'flips'", "did you mean 'flip'?"),
    14: ("search.trials", "12.5", "a whole number at least 1 and at most 100000"),
    15: ("search.scheduler", "'hyper-band'", "asha, hyperband, median, pbt, none; did you mean 'hyperband'?"),
    16: ("search.forbid.1", "3", "string"),
    17: ("search.seed_baseline", "'no'", "true or false"),
    20: ("ensemble.refit.mode", "'seed'", "did you mean 'seeds'?"),
    21: ("ensemble.refit.top", "0", "a whole number at least 1"),
    22: ("tracking", "'hello'", "a section with the keys uri, experiment"),
    23: ("frob", "1", "allowed: name, seed"),
}


def problems_of(path: Path, text: str, *overrides: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return caught.value.problems


def test_all_problems_at_once_in_order_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    problems = problems_of(path, WRONG)
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:{line}" for line in SAID]
    for problem, (key, came, allowed) in zip(problems, SAID.values(), strict=True):
        assert problem.split(": ")[1] == key
        assert came in problem
        assert allowed in problem


def test_a_section_that_is_a_list(tmp_path: Path) -> None:
    assert "allowed: `key: value` lines" in problems_of(tmp_path / "e.yaml", "train: [1]")[0]
    assert "allowed: a section with the keys space, trials" in problems_of(tmp_path / "e.yaml", "search: [1]")[0]


@pytest.mark.parametrize("value", [".nan", ".inf", "true", "'0.1'", "[0.1]", "{a: 1}"])
def test_a_fraction_takes_a_fraction_only(tmp_path: Path, value: str) -> None:
    (problem,) = problems_of(tmp_path / "e.yaml", f"data:\n  val_fraction: {value}\n")
    assert ":2: data.val_fraction: got " in problem
    assert problem.endswith("allowed: a number above 0 and below 0.9")


def test_a_rule_of_the_whole_experiment_names_its_key(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "e.yaml", "seed: 1\nsearch:\n  metric: rmse\n")
    assert problem.startswith(
        f"{tmp_path / 'e.yaml'}:3: search.metric: got 'rmse' with data.task 'classification', allowed: accuracy"
    )


def test_nearest() -> None:
    assert nearest("trails", ["trials", "space"]) == "did you mean 'trials'?"
    assert nearest("zzz", ["trials", "space"]) == "allowed: trials, space"


def test_knobs() -> None:
    assert knob_problem("lr", 1) == ""
    assert knob_problem("augmentation", "crop_flip+my.own:transform") == ""
    assert knob_problem("lr", -1.0) == "got -1.0, allowed: 0.0 to 100.0"
    assert "unknown key" in knob_problem("lrr", 1.0)
