"""The choice of how trials of one key train, where memory does not suffice to try one of the ways."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from random_splits import random_splits
from torch import nn

from trainables.config import TrainConfig
from trainables.contract import Outcome
from trainables.data.dataset import Splits
from trainables.image_model import ImageModel
from trainables.slots import backend, gains
from trainables.slots.alone import Lone, Serially
from trainables.slots.array import SlotArray
from trainables.slots.graphs import GraphedStep
from trainables.slots.pool import Packed, SlotPool, Turns
from trainables.slots.stacked import StackedNet, stack

CONFIG = TrainConfig(model="cnn_a", width=4, batch_size=8, epochs=1, device="cpu", seed=0)


def tiny_splits() -> Splits:
    return random_splits(16, 8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageModel:
    """Give a small model, and a cache of timings of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backend, "_VERDICTS", {})
    return ImageModel(CONFIG, tiny_splits())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_timing_that_finds_no_memory_chooses_turns_and_is_not_remembered(
    model: ImageModel, error: RuntimeError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(*_: Any, **__: Any) -> float:
        raise error

    monkeypatch.setattr(gains, "packing_gain", no_room)
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, Turns)
    assert reason == "one after another: packing does not pay, 4 slots do not fit the memory"
    assert not list(tmp_path.rglob("*.json"))
    monkeypatch.setattr(gains, "packing_gain", lambda *_, **__: 2.0)
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, SlotPool) and reason == "packed, 2.00x with 4 slots (measured now)"


def test_more_slots_than_fit_train_one_after_another_while_fewer_go_on_packed(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gain(*_: Any, alone: list[Any], **__: Any) -> float:
        if len(alone) > 4:
            raise torch.OutOfMemoryError("CUDA")
        return 2.0

    monkeypatch.setattr(gains, "packing_gain", gain)
    found = backend.Gains(model)
    assert [found.pays(slots) for slots in (4, 8, 5)] == [True, False, True]
    assert found.said[8] == "8 slots do not fit the memory"


def test_no_room_for_the_copy_to_be_timed_chooses_turns_and_other_errors_are_raised(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: RuntimeError) -> Any:
        def no_gains(*_: Any, **__: Any) -> None:
            raise error

        return no_gains

    monkeypatch.setattr(backend, "Gains", failing(torch.OutOfMemoryError("CUDA")))
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, Turns) and "memory does not suffice" in reason
    monkeypatch.setattr(backend, "Gains", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        backend.choose_pool(model)


@pytest.fixture
def mixing(model: ImageModel) -> ImageModel:
    """Give a net of a fire module's kind, whose channels are concatenated."""
    return ImageModel(CONFIG.replace(model="squeezenet1_1", image_size=32), model.splits)


@pytest.mark.parametrize(
    ("gain", "begins"), [(1.5, "by vmap, 1.50x with 4 slots"), (0.5, "one after another: vmap does not pay, 0.50x")]
)
def test_a_net_that_does_not_pack_trains_by_vmap_where_that_pays(
    mixing: ImageModel, gain: float, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def timing(step: Any, *_: Any, **__: Any) -> float:
        built.append(type(step.net))
        return gain

    monkeypatch.setattr(gains, "packing_gain", timing)
    pool, reason = backend.choose_pool(mixing)
    assert built == [StackedNet]
    assert isinstance(pool, SlotPool if gain > 1 else Turns)
    assert reason.startswith(begins) and reason.endswith("mixes channels outside a layer")
    assert "not packed: as one and alone differ by" in reason


def test_reduced_precision_on_a_cpu_is_not_trained_by_vmap(mixing: ImageModel) -> None:
    model = ImageModel(mixing.config.replace(precision="bf16"), mixing.splits)
    pool, reason = backend.choose_pool(model)
    assert isinstance(pool, Turns)
    assert reason.startswith("one after another: not packed: ")
    assert reason.endswith("not by vmap: bf16 does not reach a convolution under vmap on this device")


def test_a_trial_whose_layers_do_not_stack_ends_the_packing_of_its_key_and_no_trial(
    mixing: ImageModel, caplog: pytest.LogCaptureFixture
) -> None:
    other = ImageModel(mixing.config.replace(seed=1), mixing.splits)
    other.model.add_module("noise", nn.AlphaDropout(0.1))
    together = Packed(make=partial(SlotArray, build=stack))
    assert [isinstance(ending, Outcome) for ending in together([mixing, other])] == [True, True]
    assert "noise: AlphaDropout draws from torch's one generator" in caplog.text


@pytest.mark.parametrize(
    ("packing", "graphs", "begins", "kind"),
    [
        (2.0, {1: 1.5, 4: 1.2}, "packed, 2.00x with 4 slots (measured now), 1.20x more as replayed graphs", SlotPool),
        (2.0, {1: 3.0, 4: 1.2}, "one after another as replayed graphs, 3.00x: packing does not pay, 2.00x", Turns),
        (0.9, {1: 1.0, 4: 1.2}, "packed, 0.90x with 4 slots (measured now), 1.20x more as replayed graphs", SlotPool),
        (0.5, {1: 0.0, 4: 0.0}, "one after another: packing does not pay, 0.50x", Turns),
    ],
)
def test_graphs_and_arrays_are_chosen_by_their_product(
    model: ImageModel, packing: float, graphs: dict[int, float], begins: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's choice, with timings made up: eager or replayed, as one or alone, whatever is fastest."""
    asked: list[int] = []

    def graph_gain(step: Any, *_: Any, **__: Any) -> float:
        asked.append(len(step.losses))
        return graphs[len(step.losses)]

    monkeypatch.setattr(gains, "packing_gain", lambda *_, **__: packing)
    monkeypatch.setattr(gains, "graph_gain", graph_gain)
    for when in ("measured now", "measured before"):
        found = gains.Gains(model, capture=lambda run: run)
        alone, said = found.alone()
        assert isinstance(alone, Lone if graphs[1] > 1 else Serially)
        pays = found.pays(4)
        assert pays == (kind is SlotPool)
        reason = f"packed, {found.said[4]}" if pays else f"one after another{said}: packing does not pay, {found.said[4]}"
        assert reason.startswith(begins.replace("measured now", when))
    assert asked == ([1, 4] if all(graphs.values()) else [1, 4, 1, 4])  # what could not be recorded is not remembered
    array = found.array([ImageModel(CONFIG.replace(seed=seed), model.splits) for seed in range(4)])
    assert isinstance(array._take, GraphedStep) == (graphs[4] > 1)


def test_the_gain_is_that_of_whole_steps_and_0_where_layers_do_not_pack(
    model: ImageModel, mixing: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []

    def timing(step: Any, inputs: Any, *, alone: list[Any]) -> float:
        for own in alone:
            own()
        outputs, losses, norms = step(*inputs())
        assert norms.isfinite().all() and losses.shape == outputs.shape[:2]
        taken.append((len(alone), len(losses)))
        return 1.25

    monkeypatch.setattr(gains, "packing_gain", timing)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    assert gains.Gains(model).gain(2) == 1.25
    assert taken == [(2, 2)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    mixing.model.add_module("odd", nn.Bilinear(2, 2, 2))
    assert gains.Gains(mixing).gain(2) == 0.0


@pytest.mark.gpu
def test_a_gpu_chooses_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not run on a GPU yet: whatever is chosen there trains as a solo run does, to float32's rounding of one epoch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config, splits = CONFIG.replace(device="cuda"), tiny_splits()
    model, solo = (ImageModel(config, splits) for _ in range(2))
    pool, reason = backend.choose_pool(model)
    assert reason
    pool.join(model)
    assert pool.step(model).metrics["train/loss"] == pytest.approx(solo.step().metrics["train/loss"], rel=1e-3)


def test_a_large_batch_or_net_is_not_tried_by_vmap(mixing: ImageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    values, parameters = gains.random_batch(mixing).numel(), sum(p.numel() for p in mixing.model.parameters())
    monkeypatch.setattr(backend, "VMAP_VALUES", values)
    monkeypatch.setattr(backend, "VMAP_PARAMETERS", parameters)
    assert not backend.too_large_for_vmap(mixing)
    monkeypatch.setattr(backend, "VMAP_VALUES", values - 1)
    pool, reason = backend.choose_pool(mixing)
    assert isinstance(pool, Turns) and "too large for vmap to pay" in reason
    monkeypatch.setattr(backend, "VMAP_VALUES", values)
    monkeypatch.setattr(backend, "VMAP_PARAMETERS", parameters - 1)
    assert backend.too_large_for_vmap(mixing)
