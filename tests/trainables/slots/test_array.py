"""Whole image models trained as one array equal the same models alone, with every knob that may differ from slot to slot."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from random_splits import random_splits

from trainables.batches import Request, make_batches
from trainables.config import TrainConfig
from trainables.contract import NonFiniteLoss
from trainables.data.dataset import Splits
from trainables.image_model import ImageModel
from trainables.slots.array import SlotArray
from trainables.slots.layers import SlotConv2d
from trainables.slots.optimiser import SlotOptimizer
from trainables.slots.pack import pack
from trainables.slots.probe import Build
from trainables.slots.stacked import stack

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return random_splits(40, 12, CLASSES)


BASE = TrainConfig(model="cnn_c", width=4, batch_size=16, epochs=4, precision="fp64", device="cpu", optimizer="sgd", lr=0.02)
DIFFERENT: list[dict[str, Any]] = [
    {"seed": 1, "schedule": "cosine", "dropout": 0.5, "augmentation": "crop_flip", "label_smoothing": 0.1},
    {"seed": 2, "schedule": "step", "step_epochs": 1, "lr": 0.05, "weight_decay": 0.01, "mixup": 0.4, "average": "ema"},
    {"seed": 3, "schedule": "onecycle", "momentum": 0.8, "nesterov": False, "clip_norm": 0.5, "layer_decay": 0.5},
]


def state_of(model: ImageModel) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}/{key}")
        elif isinstance(value, torch.Tensor):
            flat[name] = value.double()

    walk({key: model.state()[key] for key in ("model", "optimizer", "average")}, "")
    return flat


def largest(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].numel())


def alone(config: TrainConfig, splits: Splits, epochs: int) -> tuple[ImageModel, list[dict[str, float]]]:
    model = ImageModel(config, splits)
    return model, [model.step().metrics for _ in range(epochs)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["cnn_c", "cifar_resnet"])
def test_slots_equal_solo_runs(splits: Splits, name: str, optimizer: str) -> None:
    base = BASE.replace(model=name, depth=8, optimizer=optimizer)
    configs = [base.replace(**changes) for changes in DIFFERENT]
    models = [ImageModel(config, splits) for config in configs]
    array = SlotArray(models)
    endings = [array.epoch() for _ in range(3)]
    for slot, config in enumerate(configs):
        expected, metrics = alone(config, splits, 3)
        assert largest(state_of(models[slot]), state_of(expected)) < 1e-10
        np.testing.assert_allclose(models[slot].predict("test"), expected.predict("test"), atol=1e-9)
        for ending, wanted in zip(endings, metrics, strict=True):
            found = ending[slot]
            assert not isinstance(found, NonFiniteLoss)
            for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "grad_norm"):
                assert found.metrics[key] == pytest.approx(wanted[key], abs=1e-9), key


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_an_array_computes_in_its_models_memory_format_and_equals_solo_runs(splits: Splits, layout: str) -> None:
    configs = [BASE.replace(memory_format=layout, **changes) for changes in DIFFERENT]
    models = [ImageModel(config, splits) for config in configs]
    array, seen = SlotArray(models), set[bool]()
    for layer in array.packed.modules():
        if isinstance(layer, SlotConv2d):
            layer.register_forward_pre_hook(lambda _, args: seen.add(args[0].is_contiguous(memory_format=torch.channels_last)))
    array.epoch()
    assert seen == {layout == "channels_last"}
    for model, config in zip(models, configs, strict=True):
        assert largest(state_of(model), state_of(alone(config, splits, 1)[0])) < 1e-10


def test_an_array_by_vmap_is_given_images_in_the_one_layout_that_it_does_not_copy(splits: Splits) -> None:
    models = [ImageModel(BASE.replace(memory_format="channels_last", **changes), splits) for changes in DIFFERENT]
    array, seen = SlotArray(models, build=stack), list[bool]()
    array.packed.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous()))
    array.epoch()
    assert seen == [True] * models[0].steps


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_losses_of_many_slots_at_once_equal_each_slots_own_to_the_bit(splits: Splits, task: str) -> None:
    if task == "regression":
        part = dataclasses.replace(splits.train, targets=np.linspace(3.0, 9.0, len(splits.train)))
        splits = dataclasses.replace(splits, train=part, val=part, classes=())
        changes: list[dict[str, Any]] = [{}, {"mixup": 0.4}, {}, {"rows": "bootstrap"}]
    else:
        changes = [{}, {"mixup": 0.4}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"label_smoothing": 0.1}, {}]
    for precision in ("fp32", "fp64"):
        base = BASE.replace(task=task, precision=precision)
        array = SlotArray([ImageModel(base.replace(seed=seed, **own), splits) for seed, own in enumerate(changes)])
        outputs = torch.randn(len(changes), 16, splits.outputs, dtype=next(array.packed.parameters()).dtype).requires_grad_()
        targets = [batch.targets for batch in next(make_batches([Request(model.source, 0) for model in array.models]))]
        count = len(targets[0])
        together = array.step._losses(outputs[:, :count], targets)
        alone = [loss(own[:count], target) for loss, own, target in zip(array.step.losses, outputs, targets, strict=True)]
        assert torch.equal(together, torch.stack(alone))
        gradients = [torch.autograd.grad(losses.square().sum(), outputs)[0] for losses in (together, torch.stack(alone))]
        assert torch.equal(*gradients)


@pytest.mark.parametrize("build", [pack, stack])
@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_validation_is_answered_by_one_pass_for_all_whose_live_network_answers(
    splits: Splits, precision: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: list[int] = []
    evaluate = ImageModel._evaluate
    monkeypatch.setattr(
        ImageModel, "_evaluate", lambda self, *args, **more: (own.append(self.config.seed), evaluate(self, *args, **more))[1]
    )
    changes: list[dict[str, Any]] = [
        {}, {"mixup": 0.4, "dropout": 0.5}, {"average": "ema"}, {"tta": "flip"}, {"bn": "recalibrate"}, {"schedule": "plateau"},
        {"label_smoothing": 0.1}, {"nesterov": False}, {"clip_norm": 0.5}, {}, {}, {},
    ]  # fmt: skip
    base = BASE.replace(model="cnn_b", precision=precision, batch_size=5, eval_batch_size=8)
    models = [ImageModel(base.replace(seed=seed, **more), splits) for seed, more in enumerate(changes)]
    array, passes = SlotArray(models, build=build), list[int]()
    array.packed.register_forward_pre_hook(lambda module, args: None if module.training else passes.append(len(args[0])))
    for epoch in (1, 2):
        own.clear()
        passes.clear()
        endings = array.epoch()
        assert (own, passes) == ([2, 3, 3, 4], [5, 5, 2])  # the average, with and without views, after measuring anew
        for model, ending in zip(models, endings, strict=True):
            np.testing.assert_allclose(model.predict("val"), evaluate(model, "val"), atol=1e-7 if precision == "fp64" else 0.02)
            assert not isinstance(ending, NonFiniteLoss) and ending.epoch == epoch
            loss = -np.log(model.predict("val")[np.arange(12), splits.val.targets]).mean()
            assert ending.metrics["val/loss"] == pytest.approx(loss, abs=1e-6)


def test_a_pass_for_all_is_not_made_for_a_few(splits: Splits) -> None:
    averages = ["none", "none", "ema", "swa"]
    models = [ImageModel(BASE.replace(seed=seed, average=average), splits) for seed, average in enumerate(averages)]
    array, modes = SlotArray(models), set[bool]()
    array.packed.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    array.epoch()
    assert modes == {True}


def test_a_model_that_leaves_goes_on_alone_and_one_that_joins_is_at_its_own_epoch(splits: Splits) -> None:
    configs = [BASE.replace(**changes) for changes in DIFFERENT]
    models = [ImageModel(config, splits) for config in configs]
    first = SlotArray(models[:2])
    first.epoch()
    first.release(models[:2])
    second = SlotArray([models[2], models[1]])
    second.epoch()
    second.release([models[2], models[1]])
    models[0].step()
    for model, config, epochs in zip(models, configs, (2, 2, 1), strict=True):
        assert largest(state_of(model), state_of(alone(config, splits, epochs)[0])) < 1e-10


def test_state_of_a_slot_loads_into_a_solo_model_and_back(splits: Splits) -> None:
    configs = [BASE.replace(optimizer="adamw", **changes) for changes in DIFFERENT]
    models = [ImageModel(config, splits) for config in configs]
    array = SlotArray(models)
    array.epoch()
    resumed = ImageModel(configs[1], splits)
    resumed.load_state(models[1].state())
    resumed.step()
    assert largest(state_of(resumed), state_of(alone(configs[1], splits, 2)[0])) < 1e-10


def test_a_slot_that_diverges_ends_alone(splits: Splits) -> None:
    configs = [BASE.replace(seed=1), BASE.replace(seed=2, lr=100.0, schedule="constant"), BASE.replace(seed=3)]
    models = [ImageModel(config, splits) for config in configs]
    with torch.no_grad():
        next(models[1].model.parameters()).fill_(float("inf"))
    array = SlotArray(models)
    endings = array.epoch()
    assert [isinstance(ending, NonFiniteLoss) for ending in endings] == [False, True, False]
    for slot in (0, 2):
        assert largest(state_of(models[slot]), state_of(alone(configs[slot], splits, 1)[0])) < 1e-10


def test_an_array_that_finds_no_memory_leaves_its_models_as_they_were(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [ImageModel(BASE.replace(seed=seed), splits) for seed in (1, 2)]
    places = [p.data_ptr() for model in models for p in model.model.parameters()]
    write = SlotOptimizer.write

    def no_room(self: SlotOptimizer, slot: int, *args: Any, **more: Any) -> None:
        if slot == 1:
            raise torch.OutOfMemoryError("CUDA")
        write(self, slot, *args, **more)

    monkeypatch.setattr(SlotOptimizer, "write", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        SlotArray(models)
    assert [p.data_ptr() for model in models for p in model.model.parameters()] == places


@pytest.mark.parametrize("build", [pack, stack])
@pytest.mark.parametrize("more", [{}, {"finetune_depth": "last_1"}, {"bn": "frozen", "memory_format": "channels_last"}])
def test_slots_with_frozen_stages_or_norms_equal_solo_runs_either_way(
    splits: Splits, more: dict[str, Any], build: Build
) -> None:
    configs = [BASE.replace(model="cnn_b", optimizer="adamw", **{**changes, **more}) for changes in DIFFERENT]
    models = [ImageModel(config, splits) for config in configs]
    array = SlotArray(models, build=build)
    for _ in range(2):
        array.epoch()
    array.release(models[:1])
    models[0].step()
    for model, config, epochs in zip(models, configs, (3, 2, 2), strict=True):
        assert largest(state_of(model), state_of(alone(config, splits, epochs)[0])) < 1e-10


@pytest.mark.parametrize("build", [pack, stack])
def test_an_array_whose_steps_are_replayed_equals_one_whose_steps_are_not(splits: Splits, build: Build) -> None:
    configs = [BASE.replace(optimizer="adamw", **changes) for changes in DIFFERENT]
    pairs = [[ImageModel(config, splits) for config in configs] for _ in range(2)]
    arrays = [SlotArray(pairs[0], build=build), SlotArray(pairs[1], build=build, capture=lambda run: run)]
    for _ in range(2):
        wanted, found = arrays[0].epoch(), arrays[1].epoch()
        for a, b in zip(wanted, found, strict=True):
            assert not isinstance(a, NonFiniteLoss) and not isinstance(b, NonFiniteLoss)
            assert [a.metrics[key] for key in ("train/loss", "grad_norm")] == [
                b.metrics[key] for key in ("train/loss", "grad_norm")
            ]
    for plain, replayed in zip(*pairs, strict=True):
        assert largest(state_of(replayed), state_of(plain)) == 0.0
