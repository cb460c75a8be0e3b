"""Three small convolutional nets: A plain, B with a norm after each convolution, C with a hidden layer and dropout besides.

At 32 px RGB and width 16 these are conv3x3 3-16, pool, conv 16-32, conv 32-64, pool (64 x 8 x 8), then the classifier.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from trainables.config import TrainConfig

SMALLEST = 8
"""Pixels; two poolings must leave something to classify."""


class Cnn(nn.Module):
    """Three blocks and a classifier; takes normalised [B, C, H, W] of the side it was built for, returns logits."""

    def __init__(self, blocks: list[nn.Sequential], head: nn.Sequential) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = blocks
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.block3(self.block2(self.block1(images))))
        return out

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return the named stages from input to head."""
        return list(self.named_children())


def norm_layer(norm: str, channels: int) -> nn.Module | None:
    """Return the norm that the knob names ("batch", "group", "none" -> None) for that many channels."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(8, channels), channels) if norm == "group" else None


def _block(inputs: int, outputs: int, *, norm: str, dropout2d: float, pool: bool) -> nn.Sequential:
    """Conv -> norm (-> pool) -> ReLU -> Dropout2d; the convolution has a bias only where no norm follows.

    Pooled before ReLU and dropout the values and gradients are the same (both keep the order of a map's values) at a quarter of
    their work; to the bit, but for two values of a window that dropout's scale rounds to one.
    """
    layer = norm_layer(norm, outputs)
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=layer is None)
    modules = [convolution, layer, nn.MaxPool2d(2) if pool else None, nn.ReLU(), nn.Dropout2d(dropout2d)]
    return nn.Sequential(*[module for module in modules if module is not None])


def _cnn(config: TrainConfig, *, outputs: int, channels: int, image_size: int, norm: str, hidden: int) -> Cnn:
    if image_size < SMALLEST:
        raise ValueError(
            f"train.image_size: {config.model} was asked for {image_size} px, allowed: {SMALLEST} or more; "
            "set image_size, or pass the side of the data's images to build_model"
        )
    width = config.width
    plan = [(channels, width, True), (width, 2 * width, False), (2 * width, 4 * width, True)]
    blocks = [_block(i, o, norm=norm, dropout2d=config.dropout2d, pool=pool) for i, o, pool in plan]
    features = 4 * width * (image_size // 2 // 2) ** 2
    if hidden:
        layers = [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(hidden, outputs)]
    else:
        layers = [nn.Linear(features, outputs)]
    return Cnn(blocks, nn.Sequential(nn.Flatten(), *layers))


def cnn_a(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> Cnn:
    """Variant A: no norm and no classifier dropout, whatever the knobs say; only `width` and `dropout2d` shape it."""
    return _cnn(config, outputs=outputs, channels=channels, image_size=image_size, norm="none", hidden=0)


def cnn_b(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> Cnn:
    """Variant B: A with a norm after each convolution."""
    return _cnn(config, outputs=outputs, channels=channels, image_size=image_size, norm=config.norm, hidden=0)


def cnn_c(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> Cnn:
    """Variant C: B with Linear -> ReLU -> Dropout(p) -> Linear; 256 hidden units at width 16, scaled with the width."""
    hidden = 16 * config.width
    return _cnn(config, outputs=outputs, channels=channels, image_size=image_size, norm=config.norm, hidden=hidden)
