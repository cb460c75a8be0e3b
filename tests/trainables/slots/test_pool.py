"""The pool's meeting point: every member once a tick, leaving frees the others, a failing tick reaches every member."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from trainables.contract import NonFiniteLoss, Outcome
from trainables.slots import pool as pool_module
from trainables.slots.pool import Left, Packed, SlotPool, Turns


class Fake:
    """Stands in for an ImageModel: counts its epochs."""

    def __init__(self, name: str, epochs: int) -> None:
        self.name, self.epochs, self.epoch = name, epochs, 0


def tick(models: list[Any]) -> list[Any]:
    endings: list[Any] = []
    for model in models:
        model.epoch += 1
        endings.append(Outcome(model.epoch, {"together": float(len(models))}))
    return endings


def run_all(pool: SlotPool, fakes: list[Fake]) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {fake.name: [] for fake in fakes}

    def train(fake: Any) -> None:
        for _ in range(fake.epochs):
            seen[fake.name].append(pool.step(fake).metrics["together"])
        pool.leave(fake)

    for fake in fakes:
        pool.join(fake)  # type: ignore[arg-type]
    threads = [threading.Thread(target=train, args=(fake,)) for fake in fakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return seen


def test_every_member_trains_once_a_tick_and_the_tail_shrinks() -> None:
    pool = SlotPool(tick)
    seen = run_all(pool, [Fake("a", 1), Fake("b", 3), Fake("c", 5)])
    assert seen == {"a": [3], "b": [3, 2, 2], "c": [3, 2, 2, 1, 1]}
    assert (pool.ticks, pool.slot_epochs) == (5, 9)


def test_many_threads_never_hang_whatever_their_order() -> None:
    for _ in range(20):
        fakes = [Fake(str(i), 1 + i % 4) for i in range(12)]
        seen = run_all(SlotPool(tick), fakes)
        assert {name: len(found) for name, found in seen.items()} == {f.name: f.epochs for f in fakes}


def test_one_that_joins_during_a_tick_trains_at_the_next() -> None:
    computing, joined = threading.Event(), threading.Event()
    late, early = Fake("late", 1), Fake("early", 2)
    seen: dict[str, list[float]] = {}

    def slow(models: list[Any]) -> list[Any]:
        computing.set()
        assert joined.wait(timeout=60)
        return tick(models)

    pool = SlotPool(slow)

    def train(fake: Any) -> None:
        seen[fake.name] = [pool.step(fake).metrics["together"] for _ in range(fake.epochs)]
        pool.leave(fake)

    def train_late() -> None:
        assert computing.wait(timeout=60)
        pool.join(late)  # type: ignore[arg-type]
        threading.Timer(0.05, joined.set).start()
        train(late)

    pool.join(early)  # type: ignore[arg-type]
    threads = [threading.Thread(target=train, args=(early,)), threading.Thread(target=train_late)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert seen == {"early": [1, 2], "late": [2]}


def test_a_slot_that_diverges_raises_in_its_own_thread_only() -> None:
    def spoilt(models: list[Any]) -> list[Any]:
        return [NonFiniteLoss("nan") if m.name == "bad" else Outcome(1, {"together": 1.0}) for m in models]

    pool = SlotPool(spoilt)
    bad, good = Fake("bad", 1), Fake("good", 1)
    raised: list[BaseException] = []

    def train_bad() -> None:
        with pytest.raises(NonFiniteLoss) as caught:
            pool.step(bad)  # type: ignore[arg-type]
        raised.append(caught.value)
        pool.leave(bad)  # type: ignore[arg-type]

    pool.join(bad)  # type: ignore[arg-type]
    pool.join(good)  # type: ignore[arg-type]
    thread = threading.Thread(target=train_bad)
    thread.start()
    assert pool.step(good).epoch == 1  # type: ignore[arg-type]
    thread.join(timeout=60)
    assert len(raised) == 1


def test_a_tick_that_fails_fails_every_member_and_the_pool_lives_on() -> None:
    failures = [True]

    def sometimes(models: list[Any]) -> list[Any]:
        if failures.pop() if failures else False:
            raise RuntimeError("out of memory")
        return tick(models)

    pool = SlotPool(sometimes)
    fake: Any = Fake("a", 1)
    pool.join(fake)
    with pytest.raises(RuntimeError, match="out of memory"):
        pool.step(fake)
    assert pool.step(fake).epoch == 1


class Alone(Fake):
    """Trains by itself, as an ImageModel does."""

    def step(self) -> Outcome:
        self.epoch += 1
        return Outcome(self.epoch, {"together": 1.0})


def test_in_turns_nobody_waits_for_a_member_that_does_not_come() -> None:
    pool = Turns()
    first: Any
    second: Any
    first, second = Alone("a", 2), Alone("b", 1)
    pool.join(first)
    pool.join(second)
    assert [pool.step(first).epoch, pool.step(first).epoch] == [1, 2]
    assert pool.step(second).epoch == 1
    assert (pool.ticks, pool.slot_epochs) == (3, 3)


class FakeArray:
    """Stands in for a SlotArray that does not fit the device."""

    built: list[int] = []

    def __init__(self, models: list[Any]) -> None:
        self.models = list(models)
        self.built.append(len(models))

    def epoch(self) -> list[Any]:
        raise torch.OutOfMemoryError("too much")

    def release(self, models: list[Any]) -> None:
        pass


def test_an_array_too_large_for_the_device_fails_once_and_then_trains_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "SlotArray", FakeArray)
    monkeypatch.setattr(FakeArray, "built", [])
    members: list[Any] = [Alone("a", 1), Alone("b", 1)]
    packed = Packed()
    with pytest.raises(torch.OutOfMemoryError):
        packed(members)
    assert [ending.epoch for ending in packed(members)] == [1, 1]  # type: ignore[union-attr]
    assert FakeArray.built == [2]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("MPS backend out of memory")])
def test_an_array_that_cannot_even_be_built_costs_its_trials_nothing(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(models: list[Any]) -> None:
        built.append(len(models))
        raise error

    built: list[int] = []
    monkeypatch.setattr(pool_module, "SlotArray", no_room)
    members: list[Any] = [Alone("a", 2), Alone("b", 2)]
    packed = Packed()
    assert [ending.epoch for ending in packed(members)] == [1, 1]  # type: ignore[union-attr]
    assert [ending.epoch for ending in packed(members)] == [2, 2]  # type: ignore[union-attr]
    assert built == [2] and "2 slots as one array do not fit the memory" in caplog.text


def test_another_error_of_building_an_array_is_nobodys_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(models: list[Any]) -> None:
        raise RuntimeError(f"{len(models)} shapes differ")

    monkeypatch.setattr(pool_module, "SlotArray", broken)
    members: list[Any] = [Alone("a", 1), Alone("b", 1)]
    with pytest.raises(RuntimeError, match="2 shapes differ"):
        Packed()(members)


def test_one_member_or_a_number_that_does_not_pay_trains_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SlotArray", FakeArray)
    monkeypatch.setattr(FakeArray, "built", [])
    members: list[Any] = [Alone(str(i), 1) for i in range(3)]
    packed = Packed(lambda slots: slots > 3)
    assert [ending.epoch for ending in packed(members)] == [1, 1, 1]  # type: ignore[union-attr]
    assert [ending.epoch for ending in packed(members[:1])] == [2]  # type: ignore[union-attr]
    assert FakeArray.built == []


@pytest.mark.parametrize("pool", [SlotPool(tick), Turns()])
def test_one_that_somebody_else_took_out_trains_no_more(pool: SlotPool | Turns) -> None:
    gone: Any = Alone("gone", 3)
    pool.join(gone)
    pool.leave(gone)
    with pytest.raises(Left):
        pool.step(gone)


def test_one_that_waits_for_the_others_is_freed_when_it_is_taken_out() -> None:
    pool = SlotPool(tick)
    waiting: Any
    absent: Any
    waiting, absent = Fake("waiting", 1), Fake("absent", 1)
    pool.join(waiting)
    pool.join(absent)
    freed = threading.Event()

    def train() -> None:
        with pytest.raises(Left):
            pool.step(waiting)
        freed.set()

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    while not pool._waiting:
        threading.Event().wait(0.001)
    pool.leave(waiting)
    assert freed.wait(timeout=60)
    assert pool.step(absent).metrics == {"together": 1.0}


def test_the_log_says_once_why_the_only_trial_of_a_key_trains_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "SlotArray", FakeArray)
    caplog.set_level("INFO", logger=pool_module.__name__)
    only: list[Any] = [Alone("only", 2)]
    packed = Packed()
    packed(only)
    packed(only)
    assert caplog.text.count("one trial of its key: it trains alone") == 1
