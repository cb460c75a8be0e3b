"""Slots as Trainables in threads: the same numbers as alone, whoever else is in the pool, packed or one after another."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.image_model import ImageModel
from trainables.slots import backend, gains, slot_model
from trainables.slots.pool import trains_alone
from trainables.slots.slot_model import SlotModel


@pytest.fixture
def splits() -> Splits:
    rng = np.random.default_rng(1)

    def part(count: int) -> ImageSet:
        images = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        return ImageSet(images, rng.integers(0, 2, count), tuple(f"{count}-{i}" for i in range(count)))

    return Splits(part(32), part(8), part(8), ("a", "b"), "g", (0.5,), (0.25,))


@pytest.mark.parametrize("gain", [2.0, 0.5])
def test_trials_in_threads_equal_solo_runs(splits: Splits, gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gains, "remembered_gain", lambda words, measure: (gain, True))  # noqa: ARG005
    monkeypatch.setattr(slot_model, "_POOLS", {})
    base = TrainConfig(model="cnn_b", width=4, batch_size=16, precision="fp64", device="cpu", lr=0.01)
    configs = [base.replace(seed=seed, epochs=1 + seed, lr=0.01 * (1 + seed)) for seed in range(4)]
    found: dict[int, np.ndarray] = {}

    def train(config: TrainConfig) -> None:
        model = SlotModel(config, splits)
        while not model.step().done:
            pass
        model.close()
        found[config.seed] = model.predict("val")

    threads = [threading.Thread(target=train, args=(config,)) for config in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    for config in configs:
        alone = ImageModel(config, splits)
        while not alone.step().done:
            pass
        np.testing.assert_allclose(found[config.seed], alone.predict("val"), atol=1e-6)
    assert sum(pool["slot_epochs"] for pool in slot_model.pools()) == 1 + 2 + 3 + 4


def test_what_would_couple_slots_trains_alone_and_says_why(splits: Splits) -> None:
    model = ImageModel(TrainConfig(model="cnn_b", width=4, gradual_epochs=1, device="cpu"), splits)
    assert "gradual unfreezing" in backend.choose_pool(model)[1]


def test_a_slot_that_may_be_packed_is_not_compiled_unless_it_is_asked_for(splits: Splits) -> None:
    config = TrainConfig(model="cnn_b", width=4, epochs=100_000, device="cpu", compile="auto")
    slot = SlotModel(config, splits)
    assert (slot.config.compile, slot.model.config.compile) == ("auto", "off")
    assert trains_alone(slot.model) == ""
    slot.model.config = config.replace(compile="on")
    assert "compile" in trains_alone(slot.model)


def test_a_slot_in_training_takes_no_state(splits: Splits) -> None:
    model = SlotModel(TrainConfig(model="cnn_b", width=4, epochs=2, device="cpu"), splits)
    model.step()
    with pytest.raises(RuntimeError, match="in training"):
        model.load_state(model.state())
    model.close()
