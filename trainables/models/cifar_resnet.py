"""The residual nets for small images of He et al. 2015 (arXiv:1512.03385, section 4.2): 6n + 2 layers in three stages.

Shortcuts are the paper's option A (strided identity, new channels zero), so they hold no parameters. Dropout2d sits between the
two convolutions of a block (Zagoruyko and Komodakis 2016); stochastic depth grows linearly to `drop_path` at the last block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.models.cnn import norm_layer
from trainables.models.stochastic_depth import StochasticDepth


class PadShortcut(nn.Module):
    """The shortcut without parameters: every `stride`-th pixel, and `added` zero channels around the old ones."""

    def __init__(self, *, stride: int, added: int) -> None:
        super().__init__()
        self.stride, self.added = stride, added

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C + added, H / stride, W / stride]."""
        if self.stride == 1 and not self.added:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms, and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, norm: str, dropout2d: float, drop_path: float) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
        self.norm1 = norm_layer(norm, outputs) or nn.Identity()
        self.relu1 = nn.ReLU()
        self.dropout = nn.Dropout2d(dropout2d)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.norm2 = norm_layer(norm, outputs) or nn.Identity()
        self.drop_path = StochasticDepth(drop_path)
        self.relu2 = nn.ReLU()
        self.shortcut = PadShortcut(stride=stride, added=outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.dropout(self.relu1(self.norm1(self.conv1(x))))
        branch = self.drop_path(self.norm2(self.conv2(branch)))
        out: Tensor = self.relu2(self.shortcut(x) + branch)
        return out


class CifarResNet(nn.Module):
    """Stem, three stages of n blocks at 1, 1/2 and 1/4 of the side, pooled into Dropout -> Linear."""

    def __init__(self, config: TrainConfig, *, outputs: int, channels: int) -> None:
        super().__init__()
        blocks, width = (config.depth - 2) // 6, config.width
        stem_norm = norm_layer(config.norm, width)
        stem: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=stem_norm is None)]
        self.stem = nn.Sequential(*stem, stem_norm or nn.Identity(), nn.ReLU())
        rates = iter([config.drop_path * (i + 1) / (3 * blocks) for i in range(3 * blocks)])
        self.stage1 = self._stage(width, width, 1, blocks, rates, config)
        self.stage2 = self._stage(width, 2 * width, 2, blocks, rates, config)
        self.stage3 = self._stage(2 * width, 4 * width, 2, blocks, rates, config)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(4 * width, outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(
        inputs: int, outputs: int, stride: int, blocks: int, rates: Iterator[float], config: TrainConfig
    ) -> nn.Sequential:
        sizes = [(inputs, stride)] + [(outputs, 1)] * (blocks - 1)
        knobs: dict[str, Any] = {"norm": config.norm, "dropout2d": config.dropout2d}
        return nn.Sequential(*[BasicBlock(i, outputs, stride=s, drop_path=next(rates), **knobs) for i, s in sizes])

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.pool(self.stage3(self.stage2(self.stage1(self.stem(images))))))
        return out

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return the named stages from input to head (pooling has no parameters and is left out)."""
        return [(name, child) for name, child in self.named_children() if name != "pool"]


def cifar_resnet(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> CifarResNet:
    """Build the net of `depth` layers; any image side will do, `image_size` is not used."""
    del image_size
    if config.depth < 8 or (config.depth - 2) % 6:
        near = max(8, 6 * round((config.depth - 2) / 6) + 2)
        raise ValueError(f"train.depth: got {config.depth}, a CIFAR ResNet has 6n + 2 layers (8, 14, 20, ...); nearest: {near}")
    return CifarResNet(config, outputs=outputs, channels=channels)
