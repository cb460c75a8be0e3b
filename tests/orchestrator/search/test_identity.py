"""What may not change under a run folder, and what may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from search_fakes import SPACE, MakeExperiment

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config
from orchestrator.search.identity import check_identity, check_spec, identity
from orchestrator.search.ledger import Event, spec_to
from orchestrator.store.records import TrialSpec

ROOT = Path("/runs/tiny")


def ledger(experiment: Experiment, *, search: bool = True) -> list[Event]:
    """Return the events of a run folder whose trials were made with this experiment."""
    baseline = TrialSpec("baseline", baseline_config(experiment), kind="baseline")
    return [
        {"event": "identity", "values": identity(experiment, search=search)},
        {"event": "created", "trial_id": "baseline", "spec": spec_to(baseline)},
        {"event": "epoch", "trial_id": "baseline", "epoch": 1, "metrics": {}},
        *([{"event": "created", "trial_id": "t0000", "spec": spec_to(TrialSpec("t0000", {}))}] if search else []),
    ]


def changed(experiment: Experiment, section: str, /, **values: Any) -> Experiment:
    return experiment.model_copy(update={section: getattr(experiment, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("data", {"split_seed": 3}, "data.split_seed: was 0, now 3"),
        ("data", {"limit": 0}, "data.limit: was 200, now 0"),
        ("search", {"metric": "log_loss"}, 'search.metric: was "accuracy", now "log_loss"'),
        ("search", {"scheduler": "none"}, 'search.scheduler: was "asha", now "none"'),
        ("search", {"forbid": ("hflip",)}, r'search.forbid: was \[\], now \["hflip"\]'),
    ],
)
def test_a_changed_key_is_named(section: str, values: dict[str, Any], said: str, experiment: MakeExperiment) -> None:
    made = experiment()
    with pytest.raises(UserError, match=rf"/runs/tiny: .*\n  {said}\n.*-o name=NAME"):
        check_identity(changed(made, section, **values), ledger(made), ROOT)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("search", {"trials": 50, "concurrency": 3, "address": "auto", "backend": "ray", "keep_weights": 2}),
        ("search", {"time_budget_s": 9.0, "max_failures": 0, "disk_cap_gb": 1.0, "light": False}),
        ("ensemble", {"method": "single", "max_members": 2, "require_gain": True}),
        ("export", {"register_model": False}),
        ("tracking", {"experiment": "other"}),
        ("data", {"cache": "none", "cache_dir": "/elsewhere"}),
    ],
)
def test_how_it_is_run_and_what_is_made_of_it_may_change(
    section: str, values: dict[str, Any], experiment: MakeExperiment
) -> None:
    made = experiment()
    check_identity(changed(made, section, **values), ledger(made), ROOT)


def test_a_folder_of_before_the_memory_format_and_of_compile_as_a_boolean_goes_on(experiment: MakeExperiment) -> None:
    made = experiment()
    events = json.loads(json.dumps(ledger(made)))
    old = events[1]["spec"]["config"]
    old["channels_last"] = old.pop("memory_format") == "channels_last"
    events[0]["values"] |= {"train.channels_last": True, "train.compile": True}
    old["compile"] = True
    check_identity(made, events, ROOT)
    was = TrialSpec("light", {"lr": 0.1, "channels_last": True, "compile": False}, kind="light")
    check_spec(was, TrialSpec("light", {"lr": 0.1}, kind="light"), ROOT)
    with pytest.raises(UserError, match=r"train\.lr"):
        check_spec(was, TrialSpec("light", {"lr": 0.2}, kind="light"), ROOT)


def test_settings_bind_with_the_first_trial_and_not_before(experiment: MakeExperiment) -> None:
    made = experiment()
    other = changed(made, "search", scheduler="none")
    check_identity(other, ledger(made)[:-1], ROOT)  # Ray did not start, say: nothing was proposed yet
    with pytest.raises(UserError, match=r"search\.scheduler"):
        check_identity(other, ledger(made), ROOT)


def test_a_folder_older_than_the_objective_was_searched_with_own_scores(experiment: MakeExperiment) -> None:
    made = experiment()
    older = [event for event in ledger(made) if event["event"] != "identity"]
    check_identity(made, older, ROOT)
    with pytest.raises(UserError, match=r'search\.objective: was "own", now "ensemble_gain"'):
        check_identity(changed(made, "search", objective="ensemble_gain"), older, ROOT)


def test_a_space_that_was_edited_is_refused_once_trials_came_from_it(experiment: MakeExperiment, tmp_path: Path) -> None:
    made = experiment()
    searched, only_baseline = ledger(made), ledger(made, search=False)
    wider = {**SPACE, "dimensions": {"lr": {"float": [1e-3, 2.0], "log": True}, "dropout": {"float": [0.0, 0.5]}}}
    (tmp_path / "space.yaml").write_text(json.dumps(wider))
    with pytest.raises(UserError) as caught:
        check_identity(made, searched, ROOT)
    assert "search.space.lr: was" in str(caught.value) and "search.space.dropout: was not set, now" in str(caught.value)
    check_identity(made, only_baseline, ROOT)
    (tmp_path / "space.yaml").unlink()
    check_identity(made, searched, ROOT)  # who needs the space says so


def test_a_changed_training_is_named_once(experiment: MakeExperiment) -> None:
    made = experiment()
    with pytest.raises(UserError) as caught:
        check_identity(experiment(train={"lr": 0.5}), ledger(made), ROOT)
    assert str(caught.value).count("lr: was") == 1
    with pytest.raises(UserError, match="baseline.lr: was 0.001, now 0.5"):
        check_identity(experiment(train={"lr": 0.5}), ledger(made, search=False), ROOT)
    check_identity(experiment(train={"device": "auto", "workers": 2}), ledger(made), ROOT)


def test_what_failed_at_once_binds_nobody(experiment: MakeExperiment) -> None:
    check_identity(experiment(seed=1, train={"lr": 0.5}), ledger(experiment(), search=False)[:2], ROOT)


def test_the_seed_is_named_and_a_ledger_without_identity_holds_nothing(experiment: MakeExperiment) -> None:
    with pytest.raises(UserError, match="\n  seed: was 0, now 1\ntake these back"):
        check_identity(experiment(seed=1), ledger(experiment()), ROOT)
    check_identity(experiment(seed=1), [{"event": "opened", "total": 3}], ROOT)


def test_data_that_has_moved_is_the_same_until_it_is_loaded(experiment: MakeExperiment, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    there = changed(experiment(), "data", source=f"folder:{tmp_path / 'there'}")
    check_identity(changed(there, "data", source=f"folder:{tmp_path / 'here'}"), ledger(there), ROOT)
    with pytest.raises(UserError, match="data.source: was"):
        check_identity(there, ledger(changed(there, "data", source=f"folder:{tmp_path / 'here'}")), ROOT)
    with pytest.raises(UserError, match='data.source: was "digits"'):
        check_identity(there, ledger(experiment()), ROOT)


def test_a_listed_training_is_known_by_its_full_configuration() -> None:
    trained = TrialSpec("a-seeds1", {"lr": 0.1, "seed": 4}, kind="refit")
    check_spec(trained, TrialSpec("a-seeds1", {"lr": 0.1, "seed": 4, "dropout": 0.5, "device": "cpu"}, kind="refit"), ROOT)
    with pytest.raises(UserError, match=r"a-seeds1: trained with other settings .*\n  train.seed: was 4, now 5\n"):
        check_spec(trained, TrialSpec("a-seeds1", {"lr": 0.1, "seed": 5}, kind="refit"), ROOT)
    moved = [TrialSpec("b", {"model": "mobilenet_v2", "weights": f"/gone/{place}/w.pth"}) for place in ("old", "new")]
    check_spec(moved[0], moved[1], ROOT)
