"""The optimiser's groups carry each stage's rate and no decay on norms and biases; every knob reaches torch's optimiser."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.models import apply_depth, build_model, stages
from trainables.optim import build_optimizer, parameter_groups, set_lr


def _config(**knobs: object) -> TrainConfig:
    return TrainConfig.from_dict({"model": "cifar_resnet", "depth": 8, "width": 4, "weight_decay": 0.1, "lr": 0.01, **knobs})


def _net(config: TrainConfig) -> nn.Module:
    return build_model(config, outputs=3, channels=3)


def test_norms_and_biases_have_no_decay_and_nothing_is_left_out_or_doubled() -> None:
    config = _config()
    net = _net(config)
    groups = parameter_groups(net, config)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(decay) == len(list(net.parameters()))
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            exempt = name == "bias" or isinstance(module, nn.BatchNorm2d)
            assert decay[id(parameter)] == (0.0 if exempt else 0.1)


def test_a_stages_rate_falls_with_the_stages_above_it() -> None:
    config = _config(layer_decay=0.5)
    net = _net(config)
    scale = {id(p): g["lr_scale"] for g in parameter_groups(net, config) for p in g["params"]}
    found = {stage.name: {scale[id(p)] for p in stage.parameters()} for stage in stages(net)}
    assert found == {"stem": {0.0625}, "stage1": {0.125}, "stage2": {0.25}, "stage3": {0.5}, "head": {1.0}}


def test_only_parameters_that_will_train_are_given() -> None:
    config = _config(finetune_depth="last_1", gradual_epochs=3)
    net = _net(config)
    given = {id(p) for g in parameter_groups(net, config) for p in g["params"]}
    assert given == {id(p) for stage in stages(net)[-2:] for p in stage.parameters()}


def test_a_stage_still_frozen_is_skipped_even_by_weight_decay() -> None:
    config = _config(finetune_depth="last_1", gradual_epochs=1)
    net = _net(config)
    optimizer = build_optimizer(net, config)
    moved = {}
    for epoch in (0, 1):
        apply_depth(net, config, epoch)
        before = copy.deepcopy(net.state_dict())
        optimizer.zero_grad()
        net(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
        optimizer.step()
        after = net.state_dict()
        moved[epoch] = {k.split(".")[0] for k, _ in net.named_parameters() if not torch.equal(after[k], before[k])}
    assert moved == {0: {"head"}, 1: {"stage3", "head"}}


def test_set_lr_honours_each_groups_scale() -> None:
    config = _config(layer_decay=0.5)
    optimizer = build_optimizer(_net(config), config)
    set_lr(optimizer, config, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.005 * 0.5**k for k in range(5)}


@pytest.mark.parametrize(
    ("knobs", "family", "expected"),
    [
        ({"optimizer": "sgd", "momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ({"optimizer": "sgd", "momentum": 0.8, "nesterov": False}, torch.optim.SGD, {"nesterov": False}),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
        ({"optimizer": "adam", "momentum": 0.8, "beta2": 0.99}, torch.optim.Adam, {"betas": (0.8, 0.99)}),
        ({"optimizer": "adamw", "lr": 0.5, "beta2": 0.9}, torch.optim.AdamW, {"betas": (0.9, 0.9), "lr": 0.5}),
    ],
)
def test_the_family_and_its_numbers(knobs: dict[str, object], family: type, expected: dict[str, object]) -> None:
    config = _config(**knobs)
    optimizer = build_optimizer(_net(config), config)
    assert isinstance(optimizer, family)
    assert type(optimizer).__name__ == family.__name__
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("family", "theirs", "kind"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.99)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.99)}),
    ],
)
def test_steps_and_states_are_those_of_torchs_own_class(family: str, theirs: type, kind: dict[str, object]) -> None:
    config = _config(optimizer=family, momentum=0.8, beta2=0.99, dropout=0.0)
    nets = [_net(config), _net(config)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours, other = build_optimizer(nets[0], config), theirs(parameter_groups(nets[1], config), **kind)
    images = torch.randn(4, 3, 8, 8)
    for _ in range(3):
        for net, optimizer in zip(nets, (ours, other), strict=True):
            optimizer.zero_grad()
            net(images).square().sum().backward()
            optimizer.step()
    ours.load_state_dict(ours.state_dict())
    states = ours.state_dict()["state"], other.state_dict()["state"]
    assert list(states[0]) == list(states[1])
    for mine, its in zip(states[0].values(), states[1].values(), strict=True):
        assert set(mine) == set(its)
        assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(its[key])) for key, value in mine.items())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    assert not any(parameter.grad_fn for parameter in nets[0].parameters())


@pytest.mark.parametrize("family", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_heads_alone_take_torchs_fused_step_to_the_same_place(family: str, dtype: torch.dtype) -> None:
    config = _config(optimizer=family, finetune_depth="head")
    heads = [nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).to(dtype) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    fused = build_optimizer(heads[0], config.replace(finetune_depth="all"))
    assert all(group["fused"] for group in fused.param_groups)
    whole = build_optimizer(_net(config), config.replace(finetune_depth="all"))
    assert {group["fused"] for group in whole.param_groups} == {None}, "torch chooses, among them foreach on a GPU"
    plain = build_optimizer(heads[1], config.replace(finetune_depth="all"))
    for group in plain.param_groups:
        group["fused"] = False
    images = torch.randn(4, 5, dtype=dtype)
    for _ in range(5):
        for head, optimizer in zip(heads, (fused, plain), strict=True):
            optimizer.zero_grad()
            head(images).square().sum().backward()
            optimizer.step()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for a, b in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_training_imports_nothing_of_torchs_compiler(optimizer: str) -> None:
    script = f"""
import sys
from trainables.config import TrainConfig
from trainables.data import DataConfig, load_splits
from trainables.image_model import ImageModel

config = TrainConfig(model="cnn_b", width=4, epochs=1, optimizer={optimizer!r}, clip_norm=1.0, average="ema", dropout=0.1,
                     compile="auto")  # of a trial so short that it is off
model = ImageModel(config, load_splits(DataConfig(source="digits", limit=60)))
model.step()
model.load_state(model.state())
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
