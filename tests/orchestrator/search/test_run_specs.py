"""A fixed list of trainings (baseline, refits, bags) beside a search: run once, gone on with, refused, interrupted."""

from __future__ import annotations

import signal

import pytest
from search_fakes import FakeTrainable, KillAt, Killed, MakeExperiment, Telling, epochs_in, essence, fate_times

from orchestrator.errors import Interrupted, UserError
from orchestrator.resolve import baseline_config
from orchestrator.search.interrupt import raise_now
from orchestrator.search.ledger import read_events, trial_logs
from orchestrator.search.progress import Silent
from orchestrator.search.run import run_search, run_specs
from orchestrator.store.records import TrialSpec
from orchestrator.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("fake")


def test_listed_specs_are_run_once_beside_a_search(experiment: MakeExperiment, workspace: Workspace, tracker: Telling) -> None:
    made = experiment(trials=2)
    specs = [TrialSpec(f"refit-{i}", {"lr": 0.5, "epochs": 3, "seed": i}, kind="refit", parent="t0000") for i in range(3)]
    with pytest.raises(Killed):
        run_specs(made, workspace, tracker, specs, progress=KillAt(8))
    run_search(made, workspace, tracker, progress=Silent())
    records = run_specs(made, workspace, tracker, specs, progress=Silent())
    assert [(r.trial_id, r.kind, r.parent, r.status, r.epochs_run) for r in records] == [
        (f"refit-{i}", "refit", "t0000", "finished", 3) for i in range(3)
    ]
    assert set(epochs_in(workspace).values()) == {1}
    events = len(read_events(workspace.ledger))
    assert essence(run_specs(made, workspace, tracker, specs[1:], progress=Silent())) == essence(records[1:])
    assert len(read_events(workspace.ledger)) == events
    assert all(workspace.weights(s.trial_id).exists() for s in specs), "refits keep their weights beyond keep_weights"


def test_listed_specs_with_another_configuration_are_refused(experiment: MakeExperiment, workspace: Workspace) -> None:
    run_specs(experiment(), workspace, Telling(), [TrialSpec("a-seeds1", {"lr": 0.5, "epochs": 2}, kind="refit")])
    with pytest.raises(UserError, match=r"a-seeds1: .*\n  train.lr: was 0.5, now 0.25\n"):
        run_specs(experiment(), workspace, Telling(), [TrialSpec("a-seeds1", {"lr": 0.25, "epochs": 2}, kind="refit")])


def test_a_list_that_failed_at_once_is_tried_again_also_with_another_configuration(
    fake: type[FakeTrainable], experiment: MakeExperiment, workspace: Workspace
) -> None:
    fake.FATES["broken"] = fate_times(ValueError("train.weights: no such file"), at=1, times=2)
    for config, status in (({"lr": 0.5}, "failed"), ({"lr": 0.5}, "failed"), ({"lr": 0.25, "epochs": 2}, "finished")):
        made = experiment(train=config)
        spec = TrialSpec("baseline", baseline_config(made), kind="baseline")
        (record,) = run_specs(made, workspace, Telling(), [spec], progress=Silent())
        assert (record.status, record.config["lr"]) == (status, config["lr"])
    with pytest.raises(UserError, match="baseline.lr: was 0.25, now 0.5"):
        run_specs(experiment(train={"lr": 0.5}), workspace, Telling(), [spec], progress=Silent())


def test_what_was_interrupted_before_its_first_epoch_binds_nobody(experiment: MakeExperiment, workspace: Workspace) -> None:
    before, after = (experiment(train={"lr": lr}) for lr in (0.5, 0.25))
    with pytest.raises(Killed):
        run_specs(before, workspace, Telling(), [TrialSpec("baseline", baseline_config(before))], progress=KillAt(1))
    assert "baseline" in trial_logs(read_events(workspace.ledger))
    spec = TrialSpec("baseline", baseline_config(after), kind="baseline")
    (record,) = run_specs(after, workspace, Telling(), [spec], progress=Silent())
    assert (record.status, record.config["lr"]) == ("finished", 0.25)


def test_listed_specs_leave_the_searchs_own_run_alone(experiment: MakeExperiment, workspace: Workspace) -> None:
    made, before, after = experiment(trials=2), Telling(), Telling()
    run_specs(made, workspace, before, [TrialSpec("baseline", baseline_config(made), kind="baseline")], progress=Silent())
    assert before.calls[-1] == ("search_ended", "finished", {}), "a baseline alone opens the run, with no score of a search"
    run_search(made, workspace, Telling(), progress=Silent())
    run_specs(made, workspace, after, [TrialSpec("t0000-seeds1", {"lr": 0.5, "epochs": 2}, kind="refit")], progress=Silent())
    assert [call[0] for call in after.calls if call[0].startswith("search")] == []
    assert after.of("trial_ended")


def test_listed_specs_do_not_close_a_search_that_is_not_finished(experiment: MakeExperiment, workspace: Workspace) -> None:
    made = experiment(trials=4, scheduler="none")
    heard = iter([False] * 4)
    run_search(made, workspace, Telling(), progress=Silent(), stop=lambda: next(heard, True))
    for trial_id, log in trial_logs(read_events(workspace.ledger)).items():
        assert log.status == "finished", trial_id
    run_specs(
        made, workspace, Telling(), [TrialSpec("t0000-seeds1", {"lr": 0.5, "epochs": 2}, kind="refit")], progress=Silent()
    )
    with pytest.raises(UserError, match="--resume"):
        run_search(made, workspace, Telling(), progress=Silent())
    assert len(run_search(made, workspace, Telling(), resume=True, progress=Silent())) == 4


@pytest.mark.parametrize(
    ("again", "said"), [("", "orchestrate run /"), ("orchestrate ensemble runs/tiny", "ensemble runs/tiny")]
)
def test_an_interrupted_list_says_which_command_goes_on(
    again: str, said: str, fake: type[FakeTrainable], experiment: MakeExperiment, workspace: Workspace
) -> None:
    def interrupt(epoch: int) -> None:
        if epoch == 1:
            raise_now(signal.SIGINT)

    fake.FATES["ctrl-c"] = interrupt
    spec = TrialSpec("baseline", {"lr": 0.5, "epochs": 2}, kind="baseline")
    with pytest.raises(Interrupted, match=f"0 of 1 trials are done and everything is kept; go on with `.*{said}"):
        run_specs(experiment(), workspace, Telling(), [spec], progress=Silent(), again=again)
