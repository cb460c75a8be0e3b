"""Soups on a real run: of equal networks without BatchNorm the soup is the network; those that are not kept leave nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from orchestrator.context import Context, open_run
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.soups import run_soups
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from trainables.checkpoint import load_weights, save_weights


def copied(run: Any, folder: Path, small_experiment: Any, **ensemble: Any) -> Context:
    """Return a run of the same name elsewhere that holds a few members of `run`."""
    experiment = small_experiment(folder, "bagged", **ensemble)
    shutil.copytree(run.context.workspace.root, experiment.run_path)
    with open_run(experiment, lambda _: None) as context:
        return context


def as_seeds_of_one(workspace: Workspace, source: MemberRecord, weights_from: list[str]) -> None:
    """Make two refits of `source`'s configuration, each with the weights and predictions of a member."""
    for number, origin in enumerate(weights_from):
        trial_id = f"same{number}"
        shutil.copytree(workspace.member(origin), workspace.member(trial_id))
        workspace.save_record(source.replace(trial_id=trial_id, kind="refit", parent=source.trial_id))


def test_a_soup_of_equal_networks_is_kept_and_joins_the_pool(bagged_run: Any, tmp_path: Path, small_experiment: Any) -> None:
    context = copied(bagged_run, tmp_path, small_experiment)
    best = context.workspace.load_record("baseline")  # cnn_a has no BatchNorm to measure anew
    as_seeds_of_one(context.workspace, best, [best.trial_id])
    found = run_soups(Fitting.of(context))
    assert found["uniform soup"]["kept"]
    assert found["uniform soup"]["members"] == sorted([best.trial_id, "same0"])
    soup = next(r for r in Fitting.of(context).candidates() if r.kind == "soup")
    assert soup.score("accuracy") == best.score("accuracy")
    assert soup.config_hash != best.config_hash


def test_a_soup_of_strangers_is_mixed_but_not_kept(bagged_run: Any, tmp_path: Path, small_experiment: Any) -> None:
    context = copied(bagged_run, tmp_path, small_experiment)
    best = context.workspace.load_record("baseline")
    as_seeds_of_one(context.workspace, best, [best.trial_id])
    weights = load_weights(context.workspace.weights("same0"))
    save_weights(context.workspace.weights("same0"), {name: -9 * value for name, value in weights.items()})
    found = run_soups(Fitting.of(context))["uniform soup"]
    assert not found["kept"]
    assert found["score"] < found["best_ingredient"]
    assert not any(record.kind == "soup" for record in Fitting.of(context).candidates())


def test_none_is_made_when_off(bagged_run: Any, tmp_path: Path, small_experiment: Any) -> None:
    context = copied(bagged_run, tmp_path, small_experiment, soup=False)
    best = context.workspace.load_record("baseline")
    as_seeds_of_one(context.workspace, best, [best.trial_id])
    assert run_soups(Fitting.of(context)) == {}
    assert not any(record.kind == "soup" for record in Fitting.of(context).candidates())
