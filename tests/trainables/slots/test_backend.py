"""The choice of how trials of one key train, where memory does not suffice to try one of the ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.image_model import ImageModel
from trainables.slots import backend
from trainables.slots.pool import SlotPool, Turns


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageModel:
    """Give a small model, and a cache of timings of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backend, "_VERDICTS", {})
    rng = np.random.default_rng(0)

    def part(count: int) -> ImageSet:
        images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        return ImageSet(images, rng.integers(0, 2, count), tuple(f"{count}-{i}" for i in range(count)))

    splits = Splits(part(16), part(8), part(8), ("a", "b"), "f", (0.5,) * 3, (0.25,) * 3)
    return ImageModel(TrainConfig(model="cnn_a", width=4, batch_size=8, epochs=1, device="cpu", seed=0), splits)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_timing_that_finds_no_memory_chooses_turns_and_is_not_remembered(
    model: ImageModel, error: RuntimeError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(*_: Any, **__: Any) -> float:
        raise error

    monkeypatch.setattr(backend, "packing_gain", no_room)
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, Turns)
    assert reason == "one after another: packing does not pay, 4 slots do not fit the memory"
    assert not list(tmp_path.rglob("*.json"))
    monkeypatch.setattr(backend, "packing_gain", lambda *_, **__: 2.0)
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, SlotPool) and reason == "packed, 2.00x with 4 slots (measured now)"


def test_more_slots_than_fit_train_one_after_another_while_fewer_go_on_packed(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gain(*_: Any, slots: int) -> float:
        if slots > 4:
            raise torch.OutOfMemoryError("CUDA")
        return 2.0

    monkeypatch.setattr(backend, "packing_gain", gain)
    gains = backend.Gains(model)
    assert [gains.pays(slots) for slots in (4, 8, 5)] == [True, False, True]
    assert gains.said[8] == "8 slots do not fit the memory"


def test_no_room_for_the_copy_to_be_timed_chooses_turns_and_other_errors_are_raised(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: RuntimeError) -> Any:
        def gains(_: ImageModel) -> None:
            raise error

        return gains

    monkeypatch.setattr(backend, "Gains", failing(torch.OutOfMemoryError("CUDA")))
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, Turns) and "memory does not suffice" in reason
    monkeypatch.setattr(backend, "Gains", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        backend.choose_pool(model)
