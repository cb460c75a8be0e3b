"""Networks by name: a literal table of our own, any torchvision classification net, or "timm:NAME" where timm is installed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.models import timm_models, torchvision_models
from trainables.models.cifar_resnet import cifar_resnet
from trainables.models.cnn import cnn_a, cnn_b, cnn_c
from trainables.models.freezing import apply_depth, recalibrate_bn
from trainables.models.pipeline import InputPipeline, input_pipeline, member_pipeline
from trainables.models.stages import Stage, first_layer, stages
from trainables.models.weights import is_file, load_strict, read_weights

__all__ = [
    "MODELS", "InputPipeline", "Stage", "apply_depth", "build_model", "builder_of", "input_pipeline", "member_pipeline",
    "recalibrate_bn", "stages",
]  # fmt: skip

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn_a": cnn_a,
    "cnn_b": cnn_b,
    "cnn_c": cnn_c,
    "cifar_resnet": cifar_resnet,
    "cifar_resnet18": torchvision_models.cifar_resnet18,
}
"""Our own nets: name -> builder(config, *, outputs, channels, image_size)."""


def build_model(config: TrainConfig, *, outputs: int, channels: int, image_size: int = 0) -> nn.Module:
    """Return the net of `config`, initialised from `config.seed` alone; the global generator is left as it was.

    Args:
        outputs: Width of the head.
        channels: Of the images. Colour weights make a colour net, also for grey images (see `trainables.models.pipeline`).
        image_size: Side of those images (0: `config.image_size`); the small CNNs' heads and transformers depend on it.

    Raises:
        ValueError: Unknown name (with the nearest ones), a shape the family cannot take, or weights that do not fit.
    """
    builder = partial(builder_of(config.model), config, outputs=outputs, image_size=image_size or config.image_size)
    with seeded(config.seed):
        model = builder(channels=channels)
    if config.weights == "none":
        return model
    given = _pretrained(config)
    expected = _channels_of(model, given, channels)
    if expected != channels:
        with seeded(config.seed):
            model = builder(channels=expected)
    load_strict(model, given, source=config.weights)
    return model


def _pretrained(config: TrainConfig) -> dict[str, Tensor]:
    if is_file(config.weights):
        return read_weights(config.weights)
    try:
        if config.model.startswith(timm_models.PREFIX) and config.weights == "default":
            return timm_models.published_weights(config.model)
        if torchvision_models.has(config.model):
            return torchvision_models.published_weights(config)
    except OSError as error:  # no network, no room
        raise ValueError(
            f"train.weights: those of {config.model} ({config.weights!r}) cannot be fetched ({error}); name a .pth or "
            ".safetensors file that is here, or train from scratch: train.weights none, train.model cnn_b, search.space scratch"
        ) from error
    known = "none, default" if config.model.startswith(timm_models.PREFIX) else "none"
    raise ValueError(f"train.weights: got {config.weights!r}, allowed for {config.model}: {known}, or a .pth/.safetensors file")


def _channels_of(model: nn.Module, given: dict[str, Tensor], channels: int) -> int:
    """Return the channels that the weights' first layer takes: grey images are repeated for a colour one, never the reverse."""
    first = given.get(f"{first_layer(model)}.weight")
    expected = channels if first is None else first.shape[1]
    if expected < channels:
        raise ValueError(f"train.weights: the first layer takes {expected} channel, the images have {channels}")
    return expected


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the CPU generator as if freshly seeded, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def builder_of(name: str) -> Callable[..., nn.Module]:
    """Return what builds the net of a name; raises ValueError with the nearest names for an unknown one."""
    if name in MODELS:
        return MODELS[name]
    if torchvision_models.has(name):
        return torchvision_models.build
    if name.startswith(timm_models.PREFIX):
        return timm_models.build
    near = difflib.get_close_matches(name, [*MODELS, *torchvision_models.names()], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"own nets: {', '.join(MODELS)}"
    raise ValueError(f'train.model: got {name!r}, allowed: {", ".join(MODELS)}, a torchvision name or "timm:NAME"; {hint}')
