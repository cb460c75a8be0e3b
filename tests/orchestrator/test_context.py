"""An open run: what is remembered of the experiment and what is not, a folder found from anywhere, and a crash kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orchestrator.config import Experiment
from orchestrator.context import Context, open_run, stored_experiment
from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.resolve import baseline_config
from orchestrator.search.identity import identity
from orchestrator.search.ledger import Ledger, spec_to
from orchestrator.store.records import TrialSpec
from orchestrator.tracking.tracker import NullTracker

Open = Callable[..., Context]


def small(folder: Path, *overrides: str) -> Experiment:
    return load(None, [f"run_dir={folder}", "name=small", "tracking.uri=none", "data.limit=200", *overrides])


def visit(experiment: Experiment, *, verb: str = "run", once: Sequence[str] = ()) -> Context:
    """Open and close a run."""
    with open_run(experiment, lambda _: None, verb=verb, once=once) as context:
        return context


def trained(context: Context) -> None:
    """Let the run folder hold a baseline and a search."""
    ledger = Ledger(context.workspace.ledger)
    ledger.append("identity", values=identity(context.experiment, search=True))
    baseline = TrialSpec("baseline", baseline_config(context.experiment), kind="baseline")
    ledger.append("created", "baseline", spec=spec_to(baseline), drawn={})
    ledger.append("epoch", "baseline", epoch=1, metrics={})
    ledger.close()


def test_flags_hold_once_and_overrides_stay(tmp_path: Path) -> None:
    once = visit(small(tmp_path), once=["search.address=auto", "ensemble.require_gain=true"])
    assert once.experiment.search.address == "auto" and once.experiment.ensemble.require_gain
    stored = stored_experiment(tmp_path / "small")
    assert stored.search.address == "local" and not stored.ensemble.require_gain
    visit(small(tmp_path, "search.trials=3"))
    assert stored_experiment(tmp_path / "small").search.trials == 3


def test_a_run_that_is_interrupted_as_it_opens_knows_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.tracking.open_tracker", interrupted)
    for trials in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            visit(small(tmp_path, f"search.trials={trials}"))
        assert stored_experiment(tmp_path / "small").search.trials == trials


@pytest.mark.parametrize("override", ["train.lr=0.5", "baseline.lr=0.5", "seed=4", "search.metric=brier", "data.limit=150"])
def test_what_is_refused_leaves_the_run_as_it_was(override: str, tmp_path: Path) -> None:
    trained(visit(small(tmp_path)))
    before = (tmp_path / "small" / "experiment.json").read_bytes()
    with pytest.raises(UserError, match="was .*, now .*\ntake these back"):
        visit(small(tmp_path, override, "search.trials=99"))
    assert (tmp_path / "small" / "experiment.json").read_bytes() == before
    visit(small(tmp_path, "ensemble.method=single"))
    assert stored_experiment(tmp_path / "small").ensemble.method == "single"


def test_an_address_of_mlflow_that_does_not_answer_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    visit(small(tmp_path))
    (tmp_path / "no.db").write_text("this is no database")
    with pytest.raises(UserError, match="not an SQLite database"):
        visit(small(tmp_path, f"tracking.uri=sqlite:///{tmp_path / 'no.db'}"))
    assert stored_experiment(tmp_path / "small").tracking.uri == "none"


def test_a_run_is_the_same_from_every_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "space.yaml").write_text("dimensions:\n  lr: {float: [1e-4, 1e-2]}\n")
    monkeypatch.chdir(tmp_path)
    overrides = ["run_dir=runs", "data.source=folder:photos", "search.space=space.yaml"]
    first = visit(small(tmp_path, *overrides)).experiment
    written = json.loads((tmp_path / "runs" / "small" / "experiment.json").read_text())
    assert (written["run_dir"], written["data"]["source"]) == (f"{tmp_path}/runs", f"folder:{tmp_path}/photos")
    monkeypatch.chdir("/")
    assert stored_experiment(tmp_path / "runs" / "small") == first
    monkeypatch.chdir(tmp_path / "runs" / "small")
    assert stored_experiment(Path()) == first
    shutil.move(tmp_path / "runs" / "small", tmp_path / "kept")
    moved = visit(stored_experiment(tmp_path / "kept"))
    assert moved.workspace.root == tmp_path / "kept" and moved.experiment.tracking_experiment == "small"
    assert not (tmp_path / "runs" / "small").exists()


def test_a_folder_without_a_run_and_a_broken_one_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        stored_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text('{"seed": "many"')
    with pytest.raises(UserError, match="experiment.json: cannot be read"):
        stored_experiment(tmp_path)


@pytest.mark.parametrize(
    ("verb", "address", "command"),
    [
        ("run", None, "orchestrate run {}"),
        ("search", "auto", "orchestrate search {} --resume --address auto"),
        ("ensemble", None, "orchestrate ensemble {}"),
    ],
)
def test_a_verb_knows_the_command_that_goes_on(verb: str, address: str | None, command: str, tmp_path: Path) -> None:
    context = visit(small(tmp_path), verb=verb, once=[f"search.address={address}"] if address else [])
    assert context.again == command.format(tmp_path / "small")


def test_a_crash_is_kept_and_a_users_mistake_is_none(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught, open_run(small(tmp_path), lambda _: None) as context:
        raise KeyError("what nobody thought of")
    assert caught.value.__notes__ == [f"traceback in {context.workspace.crash_log}"]
    assert "KeyError: 'what nobody thought of'" in context.workspace.crash_log.read_text()
    context.workspace.crash_log.unlink()
    with pytest.raises(UserError), open_run(small(tmp_path), lambda _: None):
        raise UserError("a typo")
    assert not context.workspace.crash_log.exists()


def test_data_that_cannot_be_loaded_or_has_changed_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="data.source"):
        visit(small(tmp_path, f"data.source=folder:{tmp_path / 'photos'}")).splits()
    visit(small(tmp_path / "b")).splits()
    with pytest.raises(UserError, match="use another `name`"):
        visit(small(tmp_path / "b", "data.limit=150")).splits()


@pytest.mark.parametrize(
    ("verb", "overrides", "events", "begun"),
    [
        ("search", [], [], True),
        ("run", [], [], True),
        ("run", ["search.backend=local"], [], False),
        ("run", [], ["created"], True),
        ("search", [], ["created"], False),  # it may be refused, for want of --resume
        ("run", [], ["created", "ended", "closed"], False),
    ],
)
def test_ray_is_begun_before_the_tracker_where_trials_are_to_be_trained(
    verb: str, overrides: list[str], events: list[str], begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("orchestrator.search.ray_session.begin_ray", lambda _: order.append("ray"))

    def opened(*_: object) -> NullTracker:
        order.append("tracker")
        return NullTracker()

    monkeypatch.setattr("orchestrator.tracking.open_tracker", opened)
    experiment = small(tmp_path, *overrides)
    ledger = Ledger(visit(experiment).workspace.ledger)
    facts: dict[str, dict[str, object]] = {
        "created": {"spec": spec_to(TrialSpec("t0000", {})), "drawn": {}}, "ended": {"status": "finished", "reason": "budget"},
    }  # fmt: skip
    if events:
        ledger.append("opened", total=1)
    for event in events:
        ledger.append(event, "" if event == "closed" else "t0000", **facts.get(event, {"trials": 1}))
    ledger.close()
    order.clear()
    with open_run(experiment, lambda _: None, verb=verb, searches=True):
        pass
    assert order == ["ray", "tracker"][not begun :]


def test_no_ray_is_begun_for_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.search.ray_session.begin_ray", lambda _: pytest.fail("begun"))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    experiment = small(tmp_path, f"data.source=folder:{tmp_path / 'photos'}")
    with pytest.raises(UserError, match="data.source"), open_run(experiment, lambda _: None, searches=True):
        pass
