"""Whole searches in this process: what comes out, and that a search cut off anywhere and gone on with is the same search."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeTrainable, Heard, KillAt, Killed, MakeExperiment, Telling, epochs_in, essence, fate_nan, fate_times

from orchestrator.errors import UserError
from orchestrator.search.conductor import Conductor
from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search
from orchestrator.search.schedulers import SCHEDULERS, Verdict
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, ranked
from orchestrator.store.workspace import Workspace
from trainables.checkpoint import load_newest
from trainables.saving import Pace

pytestmark = pytest.mark.usefixtures("fake")


def test_a_search_leaves_records_probabilities_weights_of_the_best_and_a_ledger(
    experiment: MakeExperiment, workspace: Workspace, tracker: Telling
) -> None:
    made = experiment(trials=7, keep_weights=2)
    records = run_search(made, workspace, tracker, progress=Silent())
    assert [r.trial_id for r in records] == [f"t{i:04d}" for i in range(7)]
    assert {r.status for r in records} == {"finished", "stopped"} and len({r.seed for r in records}) == 7
    bank = PredictionBank(workspace)
    best = [r.trial_id for r in ranked(records, "accuracy")[:2]]
    for record in records:
        assert bank.get(record.trial_id, "val")[:, record.best_epoch].mean() == pytest.approx(0.55, abs=1e-3)
        assert workspace.weights(record.trial_id).exists() == (record.trial_id in best)
        assert not workspace.checkpoints(record.trial_id).exists()
        assert record.epochs_run == 4 or (record.status, record.stop_reason) == ("stopped", "scheduler")
    assert set(epochs_in(workspace).values()) == {1}
    assert Counter(call[1] for call in tracker.of("trial_started")) == {r.trial_id: 1 for r in records}
    assert len(tracker.of("trial_epoch")) == sum(r.epochs_run for r in records)
    assert tracker.calls[0][0] == "search_started" and tracker.calls[-1][:2] == ("search_ended", "finished")
    assert tracker.calls[-1][2]["best/val/accuracy"] == ranked(records, "accuracy")[0].score("accuracy")


@pytest.mark.parametrize(("scheduler", "algorithm"), [("asha", "tpe"), ("pbt", "random"), ("median", "random")])
def test_a_search_killed_anywhere_and_resumed_is_the_uninterrupted_search(
    scheduler: str, algorithm: str, experiment: MakeExperiment, tmp_path: Path
) -> None:
    made = experiment(trials=5, scheduler=scheduler, algorithm=algorithm)
    whole = Workspace(tmp_path / "whole")
    expected = essence(run_search(made, whole, Telling(), progress=Silent()))
    shows = KillAt(-1)
    run_search(made, Workspace(tmp_path / "count"), Telling(), progress=shows)
    for at in range(1, -shows.at, 3):
        workspace, tracker = Workspace(tmp_path / f"cut{at}"), Telling()
        with pytest.raises(Killed):
            run_search(made, workspace, tracker, progress=KillAt(at))
        done = {t: log for t, log in trial_logs(read_events(workspace.ledger)).items() if log.status}
        again: Any = run_search(made, workspace, tracker, resume=True, progress=Silent())
        assert essence(again) == expected, f"killed at {at}"
        assert set(epochs_in(workspace).values()) == {1}
        restarted = [e["trial_id"] for e in _after_second_opening(workspace) if e["event"] == "started"]
        assert not set(done) & set(restarted), "what had ended is not run again"


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_search_killed_with_no_state_but_those_it_waits_for_is_the_uninterrupted_search(
    scheduler: str, experiment: MakeExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment(trials=4, scheduler=scheduler, algorithm="random", grace_epochs=2)
    expected = essence(run_search(made, Workspace(tmp_path / "whole"), Telling(), progress=Silent()))
    monkeypatch.setattr(Pace, "due", lambda *_: False)
    for at in range(3, 40, 4):
        workspace = Workspace(tmp_path / f"cut{at}")
        with contextlib.suppress(Killed):
            run_search(made, workspace, Telling(), progress=KillAt(at))
        assert essence(run_search(made, workspace, Telling(), resume=True, progress=Silent())) == expected, f"killed at {at}"
        assert set(epochs_in(workspace).values()) == {1}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_a_trial_tells_is_on_the_disk_and_its_state_where_it_is_to_wait(
    scheduler: str, experiment: MakeExperiment, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, waited = Conductor.epoch, Counter[int]()

    def epoch(conductor: Conductor, trial_id: str, number: int, metrics: dict[str, float]) -> Verdict:
        record = workspace.load_record(trial_id)
        assert (record.status, record.epochs_run) == ("running", number) and workspace.weights(trial_id).exists()
        assert PredictionBank(workspace).get(trial_id, "val")[:, record.best_epoch].mean() == pytest.approx(0.55, abs=1e-3)
        verdict = real(conductor, trial_id, number, metrics)
        if verdict is Verdict.WAIT:
            waited[number] += 1
            found = load_newest(workspace.checkpoints(trial_id))
            assert found is not None and found[0] == found[1]["course"]["epoch"] == number
        return verdict

    monkeypatch.setattr(Conductor, "epoch", epoch)
    monkeypatch.setattr(Pace, "due", lambda *_: False)
    made = experiment(trials=4, scheduler=scheduler, algorithm="random", grace_epochs=2)
    assert len(run_search(made, workspace, Telling(), progress=Silent())) == 4
    assert waited == ({2: 4} if scheduler == "pbt" else {})


def test_a_state_that_a_worker_wrote_after_its_end_goes_at_the_end(
    experiment: MakeExperiment, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Conductor.ended

    def ended(conductor: Conductor, trial_id: str, error: str = "") -> None:
        real(conductor, trial_id, error)
        (workspace.checkpoints(trial_id) / "epoch-00000001").mkdir(parents=True)

    monkeypatch.setattr(Conductor, "ended", ended)
    records = run_search(experiment(trials=2, scheduler="none"), workspace, Telling(), progress=Silent())
    assert not [r.trial_id for r in records if workspace.checkpoints(r.trial_id).exists()]


def _after_second_opening(workspace: Workspace) -> list[dict[str, Any]]:
    events = read_events(workspace.ledger)
    second = [i for i, e in enumerate(events) if e["event"] == "opened"][1]
    return events[second:]


def test_a_kill_at_each_of_several_resumes_loses_nothing(experiment: MakeExperiment, tmp_path: Path) -> None:
    made = experiment(trials=4, scheduler="asha")
    expected = essence(run_search(made, Workspace(tmp_path / "whole"), Telling(), progress=Silent()))
    workspace, kills = Workspace(tmp_path / "cut"), 0
    while True:
        try:
            found = run_search(made, workspace, Telling(), resume=True, progress=KillAt(3))
            break
        except Killed:
            kills += 1
    assert essence(found) == expected and kills > 3


def test_a_finished_search_is_passed_quickly_an_unfinished_one_asks_for_resume_and_extend_adds(
    experiment: MakeExperiment, workspace: Workspace
) -> None:
    made = experiment(trials=3, scheduler="none")
    with pytest.raises(Killed):
        run_search(made, workspace, Telling(), progress=KillAt(4))
    with pytest.raises(UserError, match="holds a search of 1 trials, 1 of them unfinished; go on with .*--resume"):
        run_search(made, workspace, Telling(), progress=Silent())
    first = run_search(made, workspace, Telling(), resume=True, progress=Silent())
    events = len(read_events(workspace.ledger))
    assert essence(run_search(made, workspace, Telling(), progress=Silent())) == essence(first)
    assert len(read_events(workspace.ledger)) == events
    more = run_search(made, workspace, Telling(), resume=True, extra_trials=2, progress=Silent())
    assert essence(more[:3]) == essence(first) and len(more) == 5
    assert len({r.config["lr"] for r in more}) == 5, "what comes on top is new"
    assert len(run_search(made, workspace, Telling(), resume=True, progress=Silent())) == 5


def test_a_finished_search_is_not_quietly_less_than_what_is_asked_for(experiment: MakeExperiment, workspace: Workspace) -> None:
    first = run_search(experiment(trials=3), workspace, Telling(), progress=Silent())
    with pytest.raises(UserError, match=r"search.trials: 5 asked for, .* has 3; add to it with `orchestrate extend 2 /"):
        run_search(experiment(trials=5), workspace, Telling(), progress=Silent())
    assert essence(run_search(experiment(trials=2), workspace, Telling(), progress=Silent())) == essence(first)
    assert len(run_search(experiment(trials=5), workspace, Telling(), resume=True, progress=Silent())) == 5


def test_settings_that_made_the_trials_cannot_change_under_them(experiment: MakeExperiment, workspace: Workspace) -> None:
    with pytest.raises(Killed):
        run_search(experiment(trials=3), workspace, Telling(), progress=KillAt(4))
    for other, key in (
        (experiment(trials=3, seed=7), "seed"),
        (experiment(trials=3, algorithm="random"), "search.algorithm"),
        (experiment(trials=3, train={"width": 8}), "train.width"),
    ):
        with pytest.raises(UserError, match=f"\n  {key}: was "):
            run_search(other, workspace, Telling(), resume=True, progress=Silent())
    same = experiment(trials=3, keep_weights=1, max_failures=0, concurrency=2)
    assert len(run_search(same, workspace, Telling(), resume=True, progress=Silent())) == 3


def test_a_loss_that_is_not_finite_keeps_the_best_epoch_or_fails_and_the_search_goes_on(
    fake: type[FakeTrainable], experiment: MakeExperiment, workspace: Workspace
) -> None:
    fake.FATES["nan"] = fate_nan(3)
    records = run_search(experiment(trials=2, scheduler="none"), workspace, Telling(), progress=Silent())
    assert [(r.status, r.stop_reason, r.best_epoch, r.epochs_run, r.usable) for r in records] == [
        ("stopped", "nan", 2, 2, True)
    ] * 2
    fake.FATES["nan"] = fate_nan(1)
    more = run_search(
        experiment(trials=2, scheduler="none"), workspace, Telling(), resume=True, extra_trials=1, progress=Silent()
    )
    assert (more[2].status, more[2].stop_reason, more[2].usable) == ("failed", "nan", False)


def test_a_crash_is_tried_again_from_the_checkpoint_and_gives_up_in_the_end(
    fake: type[FakeTrainable], experiment: MakeExperiment, workspace: Workspace, tracker: Telling
) -> None:
    fake.FATES["crash"] = fate_times(RuntimeError("the device fell off"), at=3, times=5)
    records = run_search(experiment(trials=3, scheduler="none", max_failures=2), workspace, tracker, progress=Silent())
    assert [r.status for r in records] == ["failed", "finished", "finished"]
    assert records[0].error.startswith("RuntimeError: the device fell off\n") and records[0].best_epoch == 2
    retried = [e["trial_id"] for e in read_events(workspace.ledger) if e["event"] == "retried"]
    assert retried == ["t0000", "t0000", "t0001", "t0001"]
    assert set(epochs_in(workspace).values()) == {1} and not records[0].usable
    assert len(tracker.of("trial_ended")) == 3


def test_a_config_that_does_not_hold_fails_at_once_and_alone(
    fake: type[FakeTrainable], experiment: MakeExperiment, workspace: Workspace
) -> None:
    fake.FATES["wrong"] = fate_times(ValueError("train.lr: no"), at=1, times=1)
    records = run_search(experiment(trials=2, max_failures=2), workspace, Telling(), progress=Silent())
    assert [r.status for r in records] == ["failed", "finished"] and records[0].error.startswith("ValueError: train.lr: no")


def test_a_metric_that_the_trainable_does_not_give_is_a_failed_trial(experiment: MakeExperiment, workspace: Workspace) -> None:
    records = run_search(experiment(trials=2, metric="macro_f1"), workspace, Telling(), progress=Silent())
    assert all(r.status == "failed" and "gives no 'val/macro_f1'" in r.error for r in records)


def test_population_training_changes_numbers_as_metrics_and_never_the_params(
    experiment: MakeExperiment, workspace: Workspace, tracker: Telling
) -> None:
    heard = Heard()
    records = run_search(experiment(trials=4, scheduler="pbt", algorithm="random"), workspace, tracker, progress=heard)
    assert {r.status for r in records} == {"finished"}
    exploited = [e for e in read_events(workspace.ledger) if e["event"] == "exploited"]
    assert exploited, "the weakest of four takes over the strongest's state each round"
    taken = exploited[-1]["trial_id"]
    params = [call[2]["lr"] for call in tracker.of("trial_started") if call[1] == taken]
    assert len(params) == 4 and len(set(params)) == 1
    told = {call[3]: call[2].get("pbt/lr") for call in tracker.of("trial_epoch") if call[1] == taken}
    record = workspace.load_record(taken)
    assert told[4] == record.config["lr"] != params[0] and record.epochs_run == 4
    said = [event for event in heard.events if "goes on from" in event]
    assert len(said) == len(exploited)
    assert said[-1].startswith(f"{taken} goes on from {exploited[-1]['source']}: lr ")
    assert said[-1].endswith(f" -> {record.config['lr']:.3g}")


def test_a_time_budget_ends_the_trials_under_way_and_the_search_counts_as_done(
    experiment: MakeExperiment, workspace: Workspace
) -> None:
    made = experiment(trials=3, time_budget_s=1e-9)
    assert run_search(made, workspace, Telling(), progress=Silent()) == []
    assert run_search(made, workspace, Telling(), progress=Silent()) == [], "done: passed without resume"
    later = run_search(experiment(trials=3), workspace, Telling(), resume=True, progress=Silent())
    assert len(later) == 3, "a resume with more time goes on"


def test_somebody_who_asks_stops_between_epochs_and_the_trial_goes_on_later(
    experiment: MakeExperiment, workspace: Workspace
) -> None:
    heard = iter([False, False, True, True, True])
    made = experiment(trials=2, scheduler="none")
    stopped = run_search(made, workspace, Telling(), progress=Silent(), stop=lambda: next(heard, True))
    assert [(r.trial_id, r.status, r.epochs_run) for r in stopped] == [("t0000", "interrupted", 2)]
    assert stopped[0].usable
    rest = run_search(made, workspace, Telling(), resume=True, progress=Silent())
    assert [(r.status, r.epochs_run) for r in rest] == [("finished", 4)] * 2


def test_a_grid_ends_when_it_is_through(experiment: MakeExperiment, workspace: Workspace, tmp_path: Path) -> None:
    space = {"name": "grid", "constants": {"epochs": 1}, "dimensions": {"lr": {"choice": [0.1, 0.2, 0.3]}}}
    (tmp_path / "grid.yaml").write_text(json.dumps(space))
    made = experiment(trials=5, algorithm="grid", space=str(tmp_path / "grid.yaml"))
    records = run_search(made, workspace, Telling(), progress=Silent())
    assert [r.config["lr"] for r in records] == [0.1, 0.2, 0.3]
    assert essence(run_search(made, workspace, Telling(), progress=Silent())) == essence(records)


def test_other_data_in_the_same_run_folder_is_refused(experiment: MakeExperiment, workspace: Workspace) -> None:
    run_search(experiment(trials=1), workspace, Telling(), progress=Silent())
    other = experiment(trials=2).model_copy(update={"data": experiment().data.model_copy(update={"split_seed": 5})})
    with pytest.raises(UserError, match=r"data\.split_seed: was 0, now 5\ntake these back, name .*-o name=NAME"):
        run_search(other, workspace, Telling(), resume=True, progress=Silent())


def test_figures_go_along_and_a_figure_that_cannot_be_drawn_costs_nothing(
    experiment: MakeExperiment, workspace: Workspace, tracker: Telling
) -> None:
    def draw(record: MemberRecord, epochs: Any) -> list[Path]:
        if record.trial_id == "t0001":
            raise RuntimeError("no font")
        return [Path(f"{record.trial_id}-{len(epochs)}.png")]

    run_search(experiment(trials=2, scheduler="none"), workspace, tracker, progress=Silent(), figures=draw)
    assert [call[3] for call in tracker.of("trial_ended")] == [[Path("t0000-4.png")], []]
