"""One trial of a real network: cut off and gone on with it equals the uninterrupted one; what it leaves can be read back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeTrainable
from trial_course import CONFIG, DATA, Cut, train

from orchestrator.search.telling import params_of, tags_of
from orchestrator.search.trial import peak_memory_mb, run_trial, splits_of
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, TrialSpec
from orchestrator.store.workspace import Workspace
from trainables import checkpoint, image_model, numerics, saving
from trainables.config import TrainConfig, config_hash
from trainables.contract import Outcome
from trainables.models.weights import read_pipeline


def saved(root: Path) -> list[int]:
    """Return the epochs of which there are states."""
    return [int(path.name.removeprefix("epoch-")) for path in sorted(Workspace(root).checkpoints("a").glob("epoch-*"))]


def lose(root: Path, *, after: int) -> None:
    """Drop the states of later epochs: they were never written."""
    for path in Workspace(root).checkpoints("a").glob("epoch-*"):
        if int(path.name.removeprefix("epoch-")) > after:
            shutil.rmtree(path)


def results(record: MemberRecord) -> dict[str, Any]:
    """Return what of a record does not depend on the clock."""
    values = record.replace(peak_memory_mb=0, seconds=0).to_dict()
    for name in ("epoch_seconds", "images_per_second"):
        values["metrics"].pop(name)
    return values


def files(root: Path) -> tuple[bytes, bytes]:
    workspace = Workspace(root)
    return workspace.weights("a").read_bytes(), workspace.predictions("a", "val").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemberRecord]:
    root = tmp_path_factory.mktemp("whole")
    record, heard = train(root)
    assert heard == [1, 2, 3]
    return root, record


def test_a_trial_cut_off_twice_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    for until in (1, 2):
        with pytest.raises(Cut):
            train(tmp_path, until=until, waits=(1, 2))
        assert Workspace(tmp_path).load_record("a").status == "running"
    record, heard = train(tmp_path)
    assert heard == [2, 3], "the epoch that was perhaps not heard of comes again, none is trained again"
    assert files(tmp_path) == files(whole[0])
    assert results(record) == results(whole[1]) and record.status == "finished"


@pytest.mark.parametrize(("until", "state"), [(until, state) for until in (1, 2, 3) for state in range(until + 1)])
def test_a_trial_whose_newest_state_is_older_than_its_record_trains_again_and_is_the_same(
    until: int, state: int, tmp_path: Path, whole: tuple[Path, MemberRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "KEEP", 9)
    with pytest.raises(Cut):
        train(tmp_path, until=until, waits=(1, 2, 3))
    lose(tmp_path, after=state)
    workspace = Workspace(tmp_path)
    before, kept = workspace.load_record("a"), files(tmp_path)
    with pytest.raises(Cut):  # and it is cut off again as soon as it has begun
        train(tmp_path, until=max(1, state))
    between = workspace.load_record("a")
    assert (between.epochs_run, between.best_epoch, between.metrics) == (until, before.best_epoch, before.metrics)
    assert files(tmp_path) == kept and between.seconds >= before.seconds
    lose(tmp_path, after=state)
    record, heard = train(tmp_path)
    assert heard == list(range(max(1, state), 4))
    assert files(tmp_path) == files(whole[0])
    assert results(record) == results(whole[1])


@pytest.mark.parametrize("place", ["weights", "record"])
@pytest.mark.parametrize("state", [0, 1])
def test_a_crash_while_the_best_is_replaced_leaves_no_mixture(
    place: str, state: int, tmp_path: Path, whole: tuple[Path, MemberRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Cut):
        train(tmp_path, until=1, waits=(1,))
    lose(tmp_path, after=state)

    def cut(*_: Any, **__: Any) -> None:
        raise Cut

    real = Workspace.save_record
    with monkeypatch.context() as patch, pytest.raises(Cut):
        if place == "weights":
            patch.setattr(checkpoint, "save_weights", cut)
        else:
            patch.setattr(Workspace, "save_record", lambda w, r: cut() if r.epochs_run == 2 else real(w, r))
        train(tmp_path)
    workspace = Workspace(tmp_path)
    assert workspace.torn("a").exists() and workspace.load_record("a").best_epoch == 1
    lose(tmp_path, after=state)
    if state:  # its epoch is whole, whatever happens next
        with pytest.raises(Cut):
            train(tmp_path, until=1)
        first = tmp_path / "first"
        with pytest.raises(Cut):
            train(first, until=1)
        assert files(tmp_path) == files(first) and not workspace.torn("a").exists()
    record, _ = train(tmp_path)
    assert files(tmp_path) == files(whole[0]) and not workspace.torn("a").exists()
    assert results(record) == results(whole[1])


def test_a_better_best_is_not_lost_where_training_again_is_only_nearly_the_same(
    fake: type[FakeTrainable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = [0.1, 0.2, 0.3, 0.9, 0.4, 0.5]

    def step(model: FakeTrainable) -> Outcome:
        model.epoch += 1
        score = heights[model.epoch - 1]
        return Outcome(model.epoch, {"val/accuracy": score}, model.epoch == 6, "budget" if model.epoch == 6 else "")

    monkeypatch.setattr(fake, "step", step)
    with pytest.raises(Cut):
        train(tmp_path, until=5, waits=(1,))
    lose(tmp_path, after=1)
    heights[3] = 0.89
    record, heard = train(tmp_path)
    assert heard == [1, 2, 3, 4, 5, 6]
    assert (record.best_epoch, record.metrics, record.epochs_run) == (4, {"val/accuracy": 0.9}, 6)
    assert PredictionBank(Workspace(tmp_path)).get("a", "val")[:, 4].mean() == pytest.approx(0.55, abs=1e-3)
    assert checkpoint.load_weights(Workspace(tmp_path).weights("a"))["epoch"].item() == 4


def test_a_trial_of_another_configuration_under_the_same_id_inherits_nothing(fake: type[FakeTrainable], tmp_path: Path) -> None:
    with pytest.raises(Cut):
        train(tmp_path, until=2, config={"lr": 5.0})
    lose(tmp_path, after=0)
    record, _ = train(tmp_path, config={"lr": 0.5})
    assert fake and (record.best_epoch, record.score("accuracy")) == (3, pytest.approx(0.15))


@pytest.mark.usefixtures("fake")
def test_no_state_is_written_before_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "EVERY", 10**9)
    record, heard = train(tmp_path, config={"epochs": 6}, waits=(4,))
    assert record.status == "finished" and heard == [1, 2, 3, 4, 5, 6]
    assert saved(tmp_path) == [1, 4], "the first, and the one after which it might have had to wait"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("end", [SystemExit, Cut])
def test_a_trial_ended_inside_its_report_leaves_with_its_state_written(
    end: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save

    def save(*args: Any, **kwargs: Any) -> Path:
        time.sleep(0.2)
        return real(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(end):
        train(tmp_path, until=1, end=end)
    assert saved(tmp_path) == [1] and Workspace(tmp_path).load_record("a").status == "running"


@pytest.mark.usefixtures("fake")
def test_a_full_disk_is_a_failed_record_that_keeps_what_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any, **__: Any) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        record, heard = train(tmp_path, waits=(1,))
    assert record.status == "failed" and record.error.startswith("OSError: [Errno 28] No space left on device\n")
    assert record.best_epoch == record.epochs_run == 1 and heard == []
    assert Workspace(tmp_path).load_record("a") == record and all(files(tmp_path))
    again, _ = train(tmp_path, waits=(1,))
    assert (again.status, again.epochs_run, again.best_epoch) == ("finished", 3, 3)


@pytest.mark.parametrize("cut", ["before", "after"])  # the best epoch's files: those of an older version have no mark
def test_a_folder_of_an_older_version_whose_checkpoint_leads_its_record_keeps_the_better_epoch(
    cut: str, tmp_path: Path
) -> None:
    workspace, record = Workspace(tmp_path), train(tmp_path, waits=(1, 2))[0]
    assert record.best_epoch == 2 == saved(tmp_path)[-1]
    told = files(tmp_path)
    if cut == "before":
        workspace.weights("a").write_bytes(b"of the first epoch")
    worse = {key: 0.0 if key == "val/accuracy" else value for key, value in record.metrics.items()}
    workspace.save_record(record.replace(status="running", epochs_run=1, best_epoch=1, metrics=worse))
    again, _ = train(tmp_path)
    assert results(again) == results(record)
    assert files(tmp_path) == told


def test_a_crash_between_checkpoint_and_probabilities_loses_neither(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    workspace, record = Workspace(tmp_path), whole[1]
    lose(tmp_path, after=record.best_epoch)
    workspace.weights("a").unlink()
    workspace.predictions("a", "val").unlink()
    again, _ = train(tmp_path)
    assert again.best_epoch == record.best_epoch and files(tmp_path) == files(whole[0])


def test_a_finished_trial_started_again_only_says_so(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    record, heard = train(tmp_path)
    assert heard == list(range(heard[0], 4)), "from the newest state there is"
    assert results(record) == results(whole[1]) and record.status == "finished"
    assert record.seconds >= whole[1].seconds and files(tmp_path) == files(whole[0])


def test_the_record_says_what_it_cost_and_where_it_ran(whole: tuple[Path, MemberRecord]) -> None:
    record = whole[1]
    assert record == Workspace(whole[0]).load_record("a")
    assert record.device == "cpu" and 0 < record.peak_memory_mb <= peak_memory_mb() and record.seconds > 0
    assert record.config["optimizer"] == "adamw", "the whole TrainConfig, not only what was given"
    assert record.data_fingerprint == splits_of(DATA).fingerprint and record.stop_reason == "budget"


def test_the_record_says_what_auto_stood_for(whole: tuple[Path, MemberRecord]) -> None:
    _, record = whole
    used = TrainConfig.from_dict(record.config)
    assert (used.precision, used.memory_format, used.eval_batch_size) == ("fp32", "channels_last", 64)  # a CPU's
    assert record.config_hash == config_hash(used)


def test_a_trial_goes_on_in_the_precision_in_which_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = [2.0, 0.5]  # the second node finds fp32 faster
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: True)  # noqa: ARG005
    monkeypatch.setattr(numerics, "remembered_gain", lambda words, measure: (gains.pop(0), False))  # noqa: ARG005
    with pytest.raises(Cut):
        train(tmp_path, until=1, config={"precision": "auto"})
    record, heard = train(tmp_path, config={"precision": "auto"})
    assert heard == [1, 2, 3]
    assert record.config["precision"] == "bf16"
    assert record.config_hash == config_hash(TrainConfig.from_dict({**CONFIG, "precision": "bf16"}))
    assert gains == [0.5]


@pytest.mark.parametrize("older", [False, "auto"])  # as older records have it, and as the first attempt leaves it
def test_whether_to_compile_is_asked_again_by_each_attempt_and_the_record_says_what_was_asked(
    older: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = ["here", "there"]  # the second node may have no compiler

    def settle(config: TrainConfig, model: Any, *_: Any, **__: Any) -> Any:
        assert config.compile == "auto"
        begun.pop(0)
        return model

    monkeypatch.setattr(image_model, "as_trained", settle)
    with pytest.raises(Cut):
        train(tmp_path, until=1, config={"compile": "auto"})
    record = Workspace(tmp_path).load_record("a")
    assert (record.config["compile"], begun) == ("auto", ["there"])
    Workspace(tmp_path).save_record(record.replace(config={**record.config, "compile": older}))
    assert train(tmp_path, config={"compile": "auto"})[0].config["compile"] == "auto"
    assert begun == []


def test_a_tracker_is_told_what_was_left_open_once_it_is_known(whole: tuple[Path, MemberRecord]) -> None:
    spec = TrialSpec("a", {**CONFIG, "precision": "auto"})
    assert not {"precision", "memory_format", "eval_batch_size"} & set(params_of(spec))
    assert params_of(TrialSpec("a", CONFIG))["precision"] == "fp32"
    assert tags_of(spec, "f")["config_hash"] == ""
    assert tags_of(TrialSpec("a", CONFIG), "f")["config_hash"] == whole[1].config_hash


def test_kept_weights_carry_their_input_pipeline(whole: tuple[Path, MemberRecord]) -> None:
    pipeline = read_pipeline(Workspace(whole[0]).weights("a"))
    assert pipeline is not None
    assert pipeline["image_size"] == 8
    assert tuple(pipeline["mean"]) == splits_of(DATA).mean


def test_a_config_that_does_not_hold_is_a_failed_record(tmp_path: Path) -> None:
    record, heard = train(tmp_path, config={"lr": -1.0})
    assert record.status == "failed" and record.error.startswith("ValueError: train.lr: got -1.0") and heard == []
    assert Workspace(tmp_path).load_record("a") == record


def test_the_first_of_equal_epochs_is_kept(fake: type[FakeTrainable], tmp_path: Path) -> None:
    spec = TrialSpec("a", {"lr": 9.0, "epochs": 6})
    record = run_trial(spec, data=DATA, root=str(tmp_path), metric="accuracy", report=lambda _: True)
    assert fake and record.best_epoch == 2 and record.epochs_run == 6, "0.9, then 1.0 five times"


def test_a_lower_log_loss_is_better(fake: type[FakeTrainable], tmp_path: Path) -> None:
    spec = TrialSpec("a", {"lr": 0.5, "epochs": 4})
    record = run_trial(spec, data=DATA, root=str(tmp_path), metric="log_loss", report=lambda o: o.epoch < 3)
    assert fake and (record.status, record.stop_reason, record.best_epoch) == ("stopped", "scheduler", 3)
