"""Any torchvision classification net, its head fitted to the outputs, its first layer to the channels, with the dropout knob.

Dropout p goes to the dropouts that the classifier has; where it has none, one is put before the last layer (also for p = 0, so
that p never changes the graph). Stochastic depth p grows linearly over the residual branches of families that have it.
"""

from __future__ import annotations

from typing import Any

import torchvision.models as tv
from torch import nn
from torchvision.ops import StochasticDepth

from trainables.config import TrainConfig
from trainables.models.stages import head_modules, last_layer, replace_module

NAMES: tuple[str, ...] = tuple(tv.list_models(module=tv))
FIXED_SIZE: tuple[str, ...] = ("vit_", "maxvit_")
"""Families built for one image side, which their weights do not leave."""


def build(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> nn.Module:
    """Build the net that `config.model` names with fresh weights; `image_size` matters to fixed-size families alone."""
    options: dict[str, Any] = {}
    if config.model in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": config.weights == "none"}
    elif image_size and config.model.startswith("vit_"):
        options = {"image_size": image_size}
    elif image_size and config.model.startswith("maxvit_"):
        options = {"input_size": (image_size, image_size)}
    try:
        model: nn.Module = tv.get_model(config.model, weights=None, num_classes=outputs, **options)
    except ValueError as error:
        raise ValueError(f"train.image_size: {config.model} cannot take {image_size} px ({error})") from error
    if channels != 3:
        _fit_first_layer(model, channels)
    set_head_dropout(model, config.dropout)
    set_drop_path(model, config.drop_path)
    return model


def first_layer(model: nn.Module) -> str:
    """Return the path of the first convolution."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return names[0]


def _fit_first_layer(model: nn.Module, channels: int) -> None:
    path = first_layer(model)
    old = model.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    shape: dict[str, Any] = {"kernel_size": old.kernel_size, "stride": old.stride, "padding": old.padding}
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **shape)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    replace_module(model, path, new)


def set_head_dropout(model: nn.Module, p: float) -> None:
    """Set p of the classifier's dropouts, or put one before its last layer if it has none."""
    found = [m for head in head_modules(model) for m in head.modules() if isinstance(m, nn.Dropout)]
    for dropout in found:
        dropout.p = p
    if not found:
        path = last_layer(model)
        replace_module(model, path, nn.Sequential(nn.Dropout(p), model.get_submodule(path)))


def set_drop_path(model: nn.Module, p: float) -> None:
    """Let the drop probability of the residual branches grow linearly from 0 to p; no effect where there are none."""
    branches = [m for m in model.modules() if isinstance(m, StochasticDepth)]
    for i, branch in enumerate(branches):
        branch.p = p * i / max(1, len(branches) - 1)
