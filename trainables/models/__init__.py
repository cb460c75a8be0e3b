"""Networks by name: a literal table of our own, any torchvision classification net, or "timm:NAME" where timm is installed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.models import torchvision_models
from trainables.models.cifar_resnet import cifar_resnet
from trainables.models.cnn import cnn_a, cnn_b, cnn_c
from trainables.models.stages import Stage, stages

__all__ = ["MODELS", "Stage", "build_model", "stages"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn_a": cnn_a,
    "cnn_b": cnn_b,
    "cnn_c": cnn_c,
    "cifar_resnet": cifar_resnet,
}
"""Our own nets: name -> builder(config, *, outputs, channels, image_size)."""


def build_model(config: TrainConfig, *, outputs: int, channels: int, image_size: int = 0) -> nn.Module:
    """Return the net of `config`, initialised from `config.seed` alone; the global generator is left as it was.

    Args:
        outputs: Width of the head.
        channels: Of the images the net is given.
        image_size: Side of those images (0: `config.image_size`); the small CNNs' heads and transformers depend on it.

    Raises:
        ValueError: Unknown name (with the nearest ones), or a shape the family cannot take.
    """
    builder = _builder(config.model)
    with seeded(config.seed):
        return builder(config, outputs=outputs, channels=channels, image_size=image_size or config.image_size)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the CPU generator as if freshly seeded, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in MODELS:
        return MODELS[name]
    if name in torchvision_models.NAMES:
        return torchvision_models.build
    near = difflib.get_close_matches(name, [*MODELS, *torchvision_models.NAMES], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"own nets: {', '.join(MODELS)}"
    raise ValueError(f'train.model: got {name!r}, allowed: {", ".join(MODELS)}, a torchvision name or "timm:NAME"; {hint}')
