"""Controls that are trained or weighed: which seeds stand beside an ensemble, and when a bigger network does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.context import Context, open_run
from orchestrator.errors import UserError
from orchestrator.stages.controls import BIGGER, SEEDS, bigger_control, parameters, seed_control
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.refit import top_up_seeds
from trainables.checkpoint import save_weights


@pytest.fixture
def context(bagged_run: Any, tmp_path: Path, small_experiment: Any) -> Context:
    """A copy of the run without its ensemble stage's bags and boosting stages."""
    experiment = small_experiment(tmp_path, "bagged")
    shutil.copytree(bagged_run.context.workspace.root, experiment.run_path)
    with open_run(experiment, lambda _: None) as opened:
        for record in opened.workspace.load_records():
            if record.kind not in ("baseline", "trial"):
                shutil.rmtree(opened.workspace.member(record.trial_id))
        return opened


def copy_of(context: Context, origin: str, trial_id: str, **changes: Any) -> None:
    workspace = context.workspace
    shutil.copytree(workspace.member(origin), workspace.member(trial_id))
    workspace.save_record(workspace.load_record(origin).replace(trial_id=trial_id, parent=origin, **changes))


def test_the_seed_ensemble_takes_seeds_of_the_best_configuration_alone_the_searchs_own_first(context: Context) -> None:
    best, other, *_ = Fitting.of(context).parents()
    for trial_id, kind in (("s10", "refit"), ("s9", "refit"), ("c1", "control"), ("c2", "control")):
        copy_of(context, best.trial_id, trial_id, kind=kind)
    copy_of(context, best.trial_id, "b1", kind="bag")
    copy_of(context, other.trial_id, "o1", kind="refit")
    fitting = Fitting.of(context)
    for size, ids in ((2, ["s9"]), (4, ["s9", "s10", "c1"]), (9, ["s9", "s10", "c1", "c2"])):
        control = seed_control(fitting, size=size)[SEEDS]
        assert control.member_ids == (best.trial_id, *ids)
        assert set(control.weights) == {1 / len(control.member_ids)}
    assert not {"c1", "c2"} & {record.trial_id for record in fitting.candidates()}, "controls are never candidates"


def test_a_pool_of_nothing_that_may_be_trained_again_is_said(context: Context) -> None:
    for record in context.workspace.load_records():
        context.workspace.save_record(record.replace(kind="light"))
    fitting = Fitting.of(context)
    assert fitting.candidates()
    with pytest.raises(UserError, match="orchestrate search"):
        fitting.parents()


def test_a_failed_seed_is_passed_over(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    best = Fitting.of(context).parents()[0].trial_id
    copy_of(context, best, f"{best}-control1", kind="control", status="failed")
    copy_of(context, best, f"{best}-control2", kind="control")
    asked: list[str] = []
    monkeypatch.setattr(Context, "train", lambda _, specs: asked.extend(spec.trial_id for spec in specs))
    top_up_seeds(Fitting.of(context), size=4)
    assert asked == [f"{best}-control3", f"{best}-control4"]


def test_one_seed_is_no_ensemble(context: Context) -> None:
    assert seed_control(Fitting.of(context), size=3) == {}


def test_a_network_with_twice_the_parameters_is_shown_and_with_less_not(context: Context) -> None:
    fitting = Fitting.of(context)
    single = fitting.given([fitting.parents()[0].trial_id], "best single")
    own = parameters(context.workspace.weights(single.member_ids[0]))
    assert bigger_control(fitting, fitting.candidates(), single) == {}
    copy_of(context, single.member_ids[0], "wide", kind="trial")
    for count, found in ((2 * own - 1, {}), (2 * own, {BIGGER: ("wide",)})):
        save_weights(context.workspace.weights("wide"), {"weight": torch.zeros(count)})
        control = bigger_control(fitting, fitting.candidates(), single)
        assert {name: one.member_ids for name, one in control.items()} == found


def test_parameters_are_those_of_the_file(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(3, 5), "b": torch.zeros((), dtype=torch.float64), "c": torch.zeros(2, 0)}
    save_weights(tmp_path / "w.safetensors", weights, metadata={"pipeline": "{}"})
    assert parameters(tmp_path / "w.safetensors") == 16
