"""CIFAR ResNets have the depth and the parameter counts of the paper, and their knobs act."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.models import build_model
from trainables.models.cifar_resnet import BasicBlock
from trainables.models.stochastic_depth import StochasticDepth


def _net(**knobs: object) -> nn.Module:
    config = TrainConfig.from_dict({"model": "cifar_resnet", "depth": 8, **knobs})
    return build_model(config, outputs=10, channels=3)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_parameters_are_those_of_table_6(depth: int, millions: float) -> None:
    net = _net(depth=depth)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == depth


def test_a_depth_that_is_not_6n_plus_2_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"depth: got 18, .*6n \+ 2.*nearest: 20"):
        _net(depth=18)


@pytest.mark.parametrize("side", [8, 13, 32])
def test_any_side(side: int) -> None:
    assert _net(width=4)(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_the_shortcut_is_the_strided_input_between_zero_channels() -> None:
    """With a silent branch a block gives relu(shortcut): option A of the paper."""
    block = BasicBlock(2, 4, stride=2, norm="none", dropout2d=0.0, drop_path=0.0)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(1, 2, 4, 4)
    out = block(x)
    torch.testing.assert_close(out[:, 1:3], x[:, :, ::2, ::2])
    assert out[:, [0, 3]].abs().max() == 0


def test_width_norm_and_dropouts_act() -> None:
    net = _net(width=6, norm="group", dropout=0.25, dropout2d=0.1)
    assert net.get_submodule("stage3.0.conv1").weight.shape[:2] == (24, 12)
    assert sum(isinstance(m, nn.GroupNorm) for m in net.modules()) == 7
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.25}
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout2d)] == [0.1] * 3
    assert all(m.bias is not None for m in _net(norm="none").modules() if isinstance(m, nn.Conv2d))


def test_drop_path_grows_linearly_and_drops_whole_samples_in_training_alone() -> None:
    net = _net(depth=14, drop_path=0.6, width=4)
    assert [m.p for m in net.modules() if isinstance(m, StochasticDepth)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    x = torch.rand(4, 3, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
