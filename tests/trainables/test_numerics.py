"""What "auto" becomes: by the device's instructions, by a timing, and never where something else is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from trainables import numerics, runtime
from trainables.config import TrainConfig
from trainables.data import DataConfig, Splits, load_splits
from trainables.image_model import ImageModel

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BASE = TrainConfig(model="cnn_b", width=4, epochs=1, batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_splits(DataConfig(source="digits", limit=100))


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the device bf16, and let a test say what a timing finds."""
    said = [2.0]
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: True)  # noqa: ARG005
    monkeypatch.setattr(numerics, "remembered_gain", lambda words, measure: (said[0], True))  # noqa: ARG005
    return said


def test_the_memory_format_follows_device_and_precision() -> None:
    expected = {
        ("fp32", CPU): "channels_last", ("bf16", CPU): "channels_last", ("fp64", CPU): "contiguous",
        ("fp32", GPU): "contiguous", ("bf16", GPU): "channels_last", ("fp16", GPU): "channels_last",
    }  # fmt: skip
    assert {key: numerics.natural_format(*key) for key in expected} == expected


def test_what_is_said_stays(few: Splits) -> None:
    model = ImageModel(BASE.replace(memory_format="contiguous", precision="bf16"), few)
    assert (model.config.precision, model.config.memory_format) == ("bf16", "contiguous")
    assert ImageModel(BASE.replace(eval_batch_size=7), few).config.eval_batch_size == 7


def test_an_evaluation_batch_is_small_on_a_cpu_and_for_large_images() -> None:
    sizes = {
        side: (numerics.evaluation_batch(CPU, 3 * side**2), numerics.evaluation_batch(GPU, 3 * side**2))
        for side in (32, 224, 600)
    }
    assert sizes == {32: (64, 512), 224: (64, 256), 600: (35, 35)}


@pytest.mark.parametrize(("gain", "precision"), [(2.0, "bf16"), (numerics.PAYS, "bf16"), (1.05, "fp32"), (0.5, "fp32")])
def test_bf16_is_taken_where_it_is_clearly_faster(few: Splits, gains: list[float], gain: float, precision: str) -> None:
    gains[0] = gain
    model = ImageModel(BASE.replace(precision="auto"), few)
    assert model.config == BASE.replace(precision=precision, memory_format="channels_last", eval_batch_size=64)
    given = ImageModel(model.config, few)
    assert given.step().metrics["val/loss"] == model.step().metrics["val/loss"]  # no draw of the choice reaches the training


def test_without_instructions_for_bf16_nothing_is_timed(few: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: False)  # noqa: ARG005
    monkeypatch.setattr(numerics, "remembered_gain", lambda *_: pytest.fail("timed"))
    assert ImageModel(BASE.replace(precision="auto"), few).config.precision == "fp32"


@pytest.mark.parametrize(("found", "expected"), [({}, False), ({"avx512_bf16": False}, False), ({"amx_bf16": True}, True)])
def test_the_processor_says_whether_it_multiplies_bf16(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert numerics.multiplies_bf16(CPU) is expected


def test_the_timing_leaves_the_network_and_the_generators_alone(few: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: True)  # noqa: ARG005
    monkeypatch.setattr(numerics, "remembered_gain", lambda words, measure: (measure(), False))  # noqa: ARG005
    known = ImageModel(BASE.replace(model="cnn_c"), few)
    before = {name: tensor.clone() for name, tensor in known.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    numerics.settled(BASE.replace(model="cnn_c", precision="auto"), known.model, known.pipeline, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in known.model.state_dict().items())


@pytest.mark.usefixtures("gains")
def test_memory_that_does_not_suffice_for_both_is_for_bf16(few: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(words: object, measure: object) -> tuple[float, bool]:  # noqa: ARG001
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(numerics, "remembered_gain", full)
    assert ImageModel(BASE.replace(precision="auto"), few).config.precision == "bf16"


@pytest.mark.parametrize(("depth", "trained"), [("all", True), ("head", True), ("all", False)])
def test_what_is_timed_is_what_is_trained(few: Splits, monkeypatch: pytest.MonkeyPatch, depth: str, trained: bool) -> None:
    made: list[torch.nn.Module] = []

    def timing(first: Any, second: Any, device: torch.device, **_: object) -> float:  # noqa: ARG001
        first()
        second()
        return 1.0

    def place(net: torch.nn.Module, config: TrainConfig, device: torch.device) -> torch.nn.Module:
        made.append(runtime.place(net, config, device))
        return net

    known = ImageModel(BASE, few)
    monkeypatch.setattr(numerics, "multiplies_bf16", lambda device: True)  # noqa: ARG005
    monkeypatch.setattr(numerics, "remembered_gain", lambda words, measure: (measure(), False))  # noqa: ARG005
    monkeypatch.setattr(numerics, "ratio", timing)
    monkeypatch.setattr(numerics, "place", place)
    wanted = BASE.replace(precision="auto", finetune_depth=depth)
    assert numerics.settled(wanted, known.model, known.pipeline, CPU, trained=trained).precision == "fp32"
    assert len(made) == 2
    for net in made:
        moved = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
        assert bool(moved) == trained and ("block1" in moved) == (trained and depth == "all")


def test_a_layout_changes_no_more_than_the_rounding(few: Splits) -> None:
    scores = []
    for layout in ("contiguous", "channels_last"):
        model = ImageModel(BASE.replace(precision="fp32", memory_format=layout), few)
        model.step()
        scores.append(model.predict("val"))
    np.testing.assert_allclose(*scores, atol=1e-3)


def test_both_knobs_decide_who_trains_together() -> None:
    from trainables.config import fusion_key

    keys = {
        fusion_key(dataclasses.replace(BASE, **change))
        for change in ({}, {"precision": "bf16"}, {"memory_format": "contiguous"})
    }
    assert len(keys) == 3
