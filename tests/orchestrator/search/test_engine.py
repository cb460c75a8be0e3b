"""The slot engine without Ray: ordinary trials and records, stops that free the others, failing ticks, trials gone on with."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.engine import OVER, SlotEngine
from orchestrator.search.ledger import spec_to
from orchestrator.search.ray_nodes import Room
from orchestrator.search.ray_slots import EngineShare, EnginesOn, SlotProxy, share_slots, told_of
from orchestrator.search.trial import run_trial, splits_of
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import TrialSpec
from orchestrator.store.workspace import Workspace
from trainables.contract import Outcome
from trainables.data import DataConfig
from trainables.slots import gains, slot_model
from trainables.slots.array import SlotArray

Runner = Callable[[Mapping[str, Callable[[], Any]]], dict[str, Any]]
DATA = DataConfig(source="digits", limit=200)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run folder with targets; packing always pays, and no pool is left from another test."""
    monkeypatch.setattr(gains, "remembered_gain", lambda words, measure: (2.0, True))  # noqa: ARG005
    monkeypatch.setattr(slot_model, "_POOLS", {})
    splits = splits_of(DATA)
    PredictionBank(Workspace(tmp_path)).put_targets("val", splits.val.targets, splits.val.ids, splits.fingerprint)
    return tmp_path


def job(root: Path) -> dict[str, Any]:
    return {"data": dataclasses.asdict(DATA), "root": str(root), "metric": "accuracy"}


@pytest.fixture
def engine(root: Path) -> SlotEngine:
    return SlotEngine(job(root), slots=4, threads=1)


def spec(number: int, *, epochs: int = 3, **config: Any) -> TrialSpec:
    values = {"model": "cnn_a", "width": 4, "epochs": epochs, "device": "cpu", "seed": number, "lr": 0.01 * (1 + number)}
    return TrialSpec(f"t{number:04d}", {**values, **config})


def drive(engine: SlotEngine, trial_id: str, *, epochs: int = 10**6) -> list[dict[str, Any]]:
    """Ask for a trial's epochs as a proxy does, until it is over or has told of so many."""
    told: list[dict[str, Any]] = []
    while len(told) < epochs and (said := engine.next(trial_id)) != OVER:
        told.append(json.loads(said))
    return told


@pytest.fixture
def in_threads() -> Runner:
    """Return a runner of calls side by side, each under a name; none may hang."""

    def run(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def call(name: str) -> None:
            found[name] = calls[name]()

        threads = [threading.Thread(target=call, args=(name,), daemon=True) for name in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
            assert not thread.is_alive(), f"hangs: {set(calls) - set(found)}"
        return found

    return run


def test_trials_of_an_engine_leave_what_trials_alone_leave(root: Path, engine: SlotEngine, in_threads: Runner) -> None:
    specs = [spec(number, precision="fp64") for number in range(3)]
    for each in specs:
        engine.start(spec_to(each))
    found = in_threads({each.trial_id: lambda t=each.trial_id: drive(engine, t) for each in specs})  # type: ignore[misc]
    workspace, alone = Workspace(root), Workspace(root / "alone")
    splits = splits_of(DATA)
    PredictionBank(alone).put_targets("val", splits.val.targets, splits.val.ids, splits.fingerprint)
    for each in specs:
        heard: list[Outcome] = []

        def report(outcome: Outcome, heard: list[Outcome] = heard) -> bool:
            heard.append(outcome)
            return True

        expected = run_trial(each, data=DATA, root=str(alone.root), metric="accuracy", report=report)
        assert [told["epoch"] for told in found[each.trial_id]] == [1, 2, 3]
        for told, outcome in zip(found[each.trial_id], heard, strict=True):
            assert told["metrics"]["val/log_loss"] == pytest.approx(outcome.metrics["val/log_loss"], abs=1e-8)
        record = workspace.load_record(each.trial_id)
        assert (record.status, record.stop_reason, record.trainable) == ("finished", "budget", "image")
        assert (record.best_epoch, record.config_hash) == (expected.best_epoch, expected.config_hash)
        np.testing.assert_allclose(
            PredictionBank(workspace).get(each.trial_id, "val"), PredictionBank(alone).get(each.trial_id, "val"), atol=1e-3
        )
    summary = engine.summary()
    [pool] = summary["pools"]
    assert (pool["slot_epochs"], pool["model"]) == (9, "cnn_a")
    assert "packed" in pool["reason"]
    assert 0 < summary["held_seconds"] <= 4 * summary["seconds"]


def test_one_that_is_stopped_frees_the_others(root: Path, engine: SlotEngine, in_threads: Runner) -> None:
    for number in range(3):
        engine.start(spec_to(spec(number)))

    def stopped() -> None:
        drive(engine, "t0001", epochs=1)
        engine.stop("t0001")

    rest = in_threads({"t0000": lambda: drive(engine, "t0000"), "t0001": stopped, "t0002": lambda: drive(engine, "t0002")})
    assert [[told["epoch"] for told in rest[t]] for t in ("t0000", "t0002")] == [[1, 2, 3], [1, 2, 3]]
    record = Workspace(root).load_record("t0001")
    assert (record.status, record.epochs_run) == ("running", 1)  # its end is for the conductor to write
    with pytest.raises(LookupError, match="t0001"):
        engine.next("t0001")


def test_one_that_waits_for_the_others_is_stopped_at_once(engine: SlotEngine, in_threads: Runner) -> None:
    engine.start(spec_to(spec(0)))
    drive(engine, "t0000", epochs=1)  # from now on it waits for the word to go on, and t0001 for it
    engine.start(spec_to(spec(1)))
    in_threads({"stop": lambda: engine.stop("t0001")})
    assert [told["epoch"] for told in drive(engine, "t0000")] == [2, 3]


def test_a_trial_goes_on_from_its_checkpoint_and_a_late_one_joins(engine: SlotEngine, in_threads: Runner) -> None:
    engine.start(spec_to(dataclasses.replace(spec(0), waits=(2,))))
    assert [told["epoch"] for told in drive(engine, "t0000", epochs=2)] == [1, 2]
    engine.stop("t0000")
    engine.start(spec_to(spec(0)))
    engine.start(spec_to(spec(1)))
    found = in_threads({t: lambda t=t: drive(engine, t) for t in ("t0000", "t0001")})  # type: ignore[misc]
    assert [told["epoch"] for told in found["t0000"]] == [2, 3]  # the epoch that was perhaps not heard of is told again
    assert [told["epoch"] for told in found["t0001"]] == [1, 2, 3]


def test_starting_a_trial_ends_an_earlier_attempt_of_it(engine: SlotEngine) -> None:
    engine.start(spec_to(spec(0)))
    assert len(drive(engine, "t0000", epochs=1)) == 1
    engine.start(spec_to(spec(0)))
    assert [told["epoch"] for told in drive(engine, "t0000")] == [1, 2, 3]


def test_a_tick_that_fails_fails_its_trials_and_they_go_on_from_their_checkpoints(
    root: Path, engine: SlotEngine, in_threads: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = SlotArray.epoch, [RuntimeError("the device fell over")]

    def epoch(array: SlotArray) -> Any:
        if faults:
            raise faults.pop()
        return real(array)

    monkeypatch.setattr(SlotArray, "epoch", epoch)
    names = ["t0000", "t0001"]

    def attempt() -> dict[str, Any]:
        for number in range(2):
            engine.start(spec_to(spec(number)))
        return in_threads({t: lambda t=t: drive(engine, t) for t in names})  # type: ignore[misc]

    first = attempt()
    for t in names:
        record = Workspace(root).load_record(t)
        assert (record.status, record.epochs_run) == ("failed", len(first[t]))
        assert record.error.startswith("RuntimeError: the device fell over")
    for t, told in attempt().items():  # the newest epoch on the disk is told again, and what came after it
        again = [e["epoch"] for e in told]
        assert again == list(range(again[0], 4)) and again[0] <= max(1, len(first[t]))


def test_a_spec_that_does_not_hold_is_over_at_once_with_the_reason(root: Path, engine: SlotEngine) -> None:
    engine.start(spec_to(spec(0, augmentation="nonsense")))
    assert drive(engine, "t0000") == []
    assert "nonsense" in Workspace(root).load_record("t0000").error


@pytest.mark.parametrize(
    ("search", "cpus", "gpus", "nodes", "expected"),
    [
        ({}, 2, 0, 1, EngineShare(2, 4, 8, 1.0, 0.0)),
        ({"cpus_per_trial": 2.0}, 2, 0, 1, EngineShare(1, 8, 8, 2.0, 0.0)),
        ({"concurrency": 1}, 2, 0, 1, EngineShare(1, 1, 1, 1.0, 0.0)),
        ({"slots": 16}, 16, 2, 1, EngineShare(2, 16, 32, 1.0, 1.0)),
        ({"slots": 16, "gpus_per_trial": 0.5}, 16, 2, 1, EngineShare(4, 8, 32, 1.0, 0.5)),
        ({"gpus_per_trial": 0.0}, 16, 2, 2, EngineShare(16, 1, 16, 1.0, 0.0)),
    ],
)
def test_engines_are_divided_by_device(
    search: dict[str, Any], cpus: float, gpus: float, nodes: int, expected: EngineShare
) -> None:
    assert share_slots(SearchSection(backend="slots", **search), cpus=cpus, gpus=gpus, nodes=nodes) == expected


def test_too_little_for_one_engine_is_said() -> None:
    with pytest.raises(UserError, match="needs 4 CPUs"):
        share_slots(SearchSection(backend="slots", cpus_per_trial=4.0), cpus=2, gpus=0)


def test_what_engines_say_becomes_one_sentence() -> None:
    pool = {"model": "cnn_a", "reason": "packed, 1.50x with 4 slots", "ticks": 5, "slot_epochs": 18, "seconds": 8.0}
    sentence, facts = told_of([{"slots": 4, "seconds": 10.0, "held_seconds": 36.0, "pools": [pool]}])
    assert (facts["occupancy"], facts["device_busy"], facts["slot_epochs"]) == (0.9, 0.8, 18)
    assert "90% held" in sentence
    assert "1.50x" in sentence


def test_a_thread_that_dies_oddly_leaves_nobody_waiting(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ImportError("a module half loaded")

    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(str(args.exc_value)))
    monkeypatch.setattr("orchestrator.search.trial.run_trial", broken)
    engine.start(spec_to(spec(0)))
    assert drive(engine, "t0000") == []
    for thread in threading.enumerate():
        if thread.name == "t0000":
            thread.join(timeout=60)
    assert seen == ["a module half loaded"]


def test_the_trials_of_an_engine_share_the_time_for_their_states(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("orchestrator.search.trial.run_trial", lambda *_, at_once, **__: seen.append(at_once))
    engine.start(spec_to(spec(0)))
    assert (drive(engine, "t0000"), seen) == ([], [4])


def test_a_proxy_begins_its_trial_with_its_first_step_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get_actor(name: str) -> None:
        asked.append(name)
        raise ValueError(f"no actor {name}")

    monkeypatch.setattr("ray.get_actor", get_actor)
    proxy = object.__new__(SlotProxy)
    proxy.setup({"job": json.dumps({"engine": "slots-1", "spec": spec_to(spec(0))})})
    assert asked == []  # Tune may throw this proxy away yet
    with pytest.raises(ValueError, match="no actor"):
        proxy.step()
    assert asked == ["slots-1"]


class Elastic:
    """A cluster's nodes as the driver sees them: what a test says."""

    def __init__(self, *rooms: Room) -> None:
        self.rooms = list(rooms)
        self.asked: list[tuple[dict[str, float], int]] = []

    def wait_for(self, count: int) -> Room:
        self.asked.append(({}, count))
        return self.look()

    def look(self) -> Room:
        if self.rooms[0].cpus < 0:
            raise UserError("the cluster is not ready: a node is unfit")
        return self.rooms[0]

    def ask_for(self, bundle: dict[str, float], count: int) -> None:
        self.asked.append((bundle, count))


def test_engines_follow_the_nodes_and_an_unfit_node_is_said() -> None:
    nodes: Any = Elastic(Room(2.0, 0.0, 1))
    engines = EnginesOn(SearchSection(backend="slots", slots=8), {}, nodes, lambda: 40)
    assert nodes.asked == [({}, 5)], "40 trials, 8 a node"
    assert engines.at_once == 8
    nodes.rooms = [Room(6.0, 0.0, 3)]
    assert engines.at_once == 24
    nodes.rooms = [Room()]
    assert engines.at_once == 24, "they wait for nodes"
    nodes.rooms = [Room(cpus=-1.0)]
    with pytest.raises(UserError, match="unfit"):
        _ = engines.at_once
    assert nodes.asked[-1] == ({"CPU": 1.0, "GPU": 0.0}, 10), "an engine a CPU, 4 trials each"
