"""Frozen means that neither weights nor buffers move, through train(), forward and optimiser steps, and thawing undoes it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.models import apply_depth, build_model, recalibrate_bn, stages
from trainables.models.freezing import is_held, trainable_stages

DEPTHS = {"head": 1, "last_1": 2, "last_2": 3, "last_3": 4, "all": 5}
"""Of the five stages of a CIFAR ResNet."""


def _config(**knobs: object) -> TrainConfig:
    return TrainConfig.from_dict({"model": "cifar_resnet", "depth": 8, "width": 4, "dropout": 0.0, **knobs})


def _net(config: TrainConfig) -> nn.Module:
    return build_model(config, outputs=3, channels=3)


def _batches(count: int = 3) -> list[Tensor]:
    return list(3 + 2 * torch.randn(count, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def _train(net: nn.Module) -> None:
    """Three honest steps, with the `train()` call that moves frozen statistics in careless scripts."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net.train()
    for batch in _batches():
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()


def _moved(net: nn.Module, before: dict[str, Tensor], *, names: tuple[str, ...]) -> list[str]:
    after = net.state_dict()
    return [n for n in names if any(not torch.equal(after[k], before[k]) for k in after if k.startswith(f"{n}."))]


@pytest.mark.parametrize("depth", DEPTHS)
def test_only_the_stages_of_the_depth_move_weights_and_buffers(depth: str) -> None:
    config = _config(finetune_depth=depth)
    net = _net(config)
    apply_depth(net, config)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    names = tuple(stage.name for stage in stages(net))
    assert _moved(net, before, names=names) == list(names[-DEPTHS[depth] :])


def test_freezing_survives_train_eval_and_copying() -> None:
    config = _config(finetune_depth="head")
    net = _net(config)
    apply_depth(net, config)
    for model in (net, copy.deepcopy(net)):
        model.train().eval().train()
        modes = {name: module.training for name, module in model.named_children()}
        assert modes == {"stem": False, "stage1": False, "stage2": False, "stage3": False, "pool": True, "head": True}
        before = copy.deepcopy(model.state_dict())
        for batch in _batches():
            model(batch)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_without_freezing_train_does_move_the_buffers() -> None:
    """The pitfall itself: requires_grad=False alone does not hold BatchNorm's statistics."""
    net = _net(_config()).requires_grad_(False).train()
    before = copy.deepcopy(net.state_dict())
    net(_batches()[0])
    assert not torch.equal(net.state_dict()["stem.1.running_mean"], before["stem.1.running_mean"])


def test_gradual_unfreezing_opens_a_stage_every_so_many_epochs_up_to_the_depth() -> None:
    config = _config(finetune_depth="last_2", gradual_epochs=2)
    assert [trainable_stages(config, 5, epoch) for epoch in range(8)] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert trainable_stages(config, 5) == 3
    assert trainable_stages(_config(finetune_depth="last_3"), 3) == 3
    net = _net(config)
    open_at = {}
    for epoch in (0, 2, 4, 0):
        apply_depth(net, config, epoch)
        open_at[epoch] = [s.name for s in stages(net) if all(p.requires_grad for p in s.parameters())]
    assert open_at == {0: ["head"], 2: ["stage3", "head"], 4: ["stage2", "stage3", "head"]}


def test_a_thawed_stage_trains_its_statistics_again() -> None:
    config = _config(finetune_depth="all", gradual_epochs=1)
    net = _net(config)
    net.train()
    apply_depth(net, config, 0)
    apply_depth(net, config, 4)
    assert all(module.training and not is_held(module) for module in net.modules())


@pytest.mark.parametrize(("bn", "moves"), [("train", True), ("recalibrate", True), ("frozen", False)])
def test_bn_knob_on_trainable_stages(bn: str, moves: bool) -> None:
    config = _config(bn=bn)
    net = _net(config)
    apply_depth(net, config)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    buffers = [k for k in before if "running" in k]
    assert all(torch.equal(net.state_dict()[k], before[k]) is not moves for k in buffers)
    assert not torch.equal(net.state_dict()["stem.1.weight"], before["stem.1.weight"])


def test_recalibrated_statistics_are_the_plain_averages_over_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), nn.BatchNorm2d(3)).train()
    recalibrate_bn(net, _batches())
    first, last = net[0], net[2]
    batches = torch.stack(_batches())
    mean = batches.mean((0, 1, 3, 4))
    torch.testing.assert_close(first.running_mean, mean)
    torch.testing.assert_close(first.running_var, batches.transpose(1, 2).flatten(2).var(2).mean(0))
    torch.testing.assert_close(last.running_mean, torch.zeros(3), atol=1e-5, rtol=0)  # dropout was off
    assert (first.momentum, net.training) == (0.1, True)


def test_recalibration_leaves_frozen_stages_alone_and_puts_modes_back() -> None:
    config = _config(finetune_depth="last_1", bn="recalibrate")
    net = _net(config).eval()
    apply_depth(net, config)
    before = copy.deepcopy(net.state_dict())
    recalibrate_bn(net, _batches())
    changed = {k.split(".")[0] for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"stage3"}
    assert not any(module.training for module in net.modules())
