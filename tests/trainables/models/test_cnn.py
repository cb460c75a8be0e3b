"""The three small nets have the shapes that the literature gives them, and every knob changes what it names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.models import build_model

CANON = {"cnn_a": (432 + 16) + (4608 + 32) + (18432 + 64) + 4096 * 10 + 10}
"""Parameters at 32 px RGB, ten classes: weights + biases, by hand."""
CANON["cnn_b"] = CANON["cnn_a"] - (16 + 32 + 64) + 2 * (16 + 32 + 64)
CANON["cnn_c"] = CANON["cnn_b"] - (4096 * 10 + 10) + (4096 * 256 + 256) + (256 * 10 + 10)


def _net(model: str, *, side: int = 8, outputs: int = 10, channels: int = 3, **knobs: object) -> nn.Module:
    config = TrainConfig.from_dict({"model": model, **knobs})
    return build_model(config, outputs=outputs, channels=channels, image_size=side)


@pytest.mark.parametrize("model", CANON)
def test_parameters_at_32_px_are_the_papers(model: str) -> None:
    net = _net(model, side=32)
    assert sum(p.numel() for p in net.parameters()) == CANON[model]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (9, 3), (28, 1), (11, 2)])
def test_any_side_from_8_and_any_channels(side: int, channels: int) -> None:
    for model in CANON:
        net = _net(model, side=side, channels=channels, outputs=3, width=4)
        assert net(torch.zeros(2, channels, side, side)).shape == (2, 3)


def test_too_small_or_unknown_a_side_is_refused_with_the_next_step() -> None:
    with pytest.raises(ValueError, match="image_size: cnn_a was asked for 7 px, allowed: 8 or more"):
        _net("cnn_a", side=7)
    with pytest.raises(ValueError, match="pass the side of the data's images"):
        build_model(TrainConfig(model="cnn_a"), outputs=2, channels=1)


def test_order_is_conv_norm_pool_relu_dropout_and_the_hidden_layer_precedes_its_dropout() -> None:
    net = _net("cnn_c", dropout=0.3, dropout2d=0.2)
    kinds = [type(m).__name__ for m in net.modules() if not list(m.children())]
    first, last = ["Conv2d", "BatchNorm2d"], ["ReLU", "Dropout2d"]
    head = ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds == [*first, "MaxPool2d", *last, *first, *last, *first, "MaxPool2d", *last, *head]
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.3}
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout2d)} == {0.2}


@pytest.mark.parametrize(("dtype", "p"), [(torch.float64, 0.3), (torch.float32, 0.3), (torch.bfloat16, 0.0)])
def test_pooling_before_relu_and_dropout_gives_the_bits_of_pooling_after_them(dtype: torch.dtype, p: float) -> None:
    ours = _net("cnn_b", side=32, dropout2d=p).to(dtype)
    theirs = _net("cnn_b", side=32, dropout2d=p).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    for name in ("block1", "block3"):
        conv, norm, pool, relu, dropout = theirs.get_submodule(name)
        setattr(theirs, name, nn.Sequential(conv, norm, relu, dropout, pool))
    images = torch.randn(6, 3, 32, 32, dtype=dtype)
    found = []
    for net in (ours, theirs):
        torch.manual_seed(3)  # the same maps are dropped
        out = net(images)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in net.parameters()), *net.buffers()])
    assert any((p.grad != 0).any() for p in ours.parameters())
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("norm", "layer", "bias"), [("batch", nn.BatchNorm2d, False), ("group", nn.GroupNorm, False)])
def test_norm_is_placed_and_takes_the_bias_away(norm: str, layer: type[nn.Module], bias: bool) -> None:
    net = _net("cnn_b", norm=norm)
    assert sum(isinstance(m, layer) for m in net.modules()) == 3
    assert all((m.bias is not None) is bias for m in net.modules() if isinstance(m, nn.Conv2d))


def test_without_norm_b_is_a() -> None:
    b, a = _net("cnn_b", norm="none"), _net("cnn_a", norm="batch")
    assert list(b.state_dict()) == list(a.state_dict())
    assert all(m.bias is not None for m in b.modules() if isinstance(m, nn.Conv2d))


def test_width_scales_all_channels_and_the_hidden_layer() -> None:
    net = _net("cnn_c", width=6)
    shapes = [tuple(p.shape[:2]) for name, p in net.named_parameters() if p.ndim > 1]
    assert shapes == [(6, 3), (12, 6), (24, 12), (96, 24 * 4), (10, 96)]


def test_group_norm_divides_any_width() -> None:
    assert _net("cnn_b", norm="group", width=6)(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
