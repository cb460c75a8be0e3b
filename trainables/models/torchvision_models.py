"""Any torchvision classification net, its head fitted to the outputs, its first layer to the channels, with the dropout knob.

Dropout p goes to the dropouts that the classifier has; where it has none, one is put before the last layer (also for p = 0, so
that p never changes the graph). Stochastic depth p grows linearly over the residual branches of families that have it.
torchvision is imported where one of its nets is wanted: it brings torch's compiler along, a CPU second or more in a process
that only predicts (a training loads it with its optimiser anyway).
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.models.stages import first_layer, last_layer, replace_module, stages
from trainables.models.weights import is_file

OURS = ("cnn_", "cifar_", "timm:")
"""How names begin that are not torchvision's: to know that, it need not be imported."""
FIXED_SIZE: tuple[str, ...] = ("vit_", "maxvit_")
"""Families built for one image side, which their weights do not leave."""
_HALVES = ("googlenet", "inception_v3")
"""Their published weights were trained on images scaled to [-1, 1] (torchvision's `transform_input`)."""


def _torchvision() -> ModuleType:
    import torchvision.models

    module: ModuleType = torchvision.models
    return module


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of torchvision's classification nets."""
    tv = _torchvision()
    return tuple(tv.list_models(module=tv))


def has(model: str) -> bool:
    """Return whether torchvision has a classification net of this name."""
    return not model.startswith(OURS) and model in names()


def build(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> nn.Module:
    """Build the net that `config.model` names with fresh weights; `image_size` matters to fixed-size families alone."""
    options: dict[str, Any] = {}
    if config.model in _HALVES:
        options = {"aux_logits": False, "init_weights": config.weights == "none"}
    elif image_size and config.model.startswith("vit_"):
        options = {"image_size": image_size}
    elif image_size and config.model.startswith("maxvit_"):
        options = {"input_size": (image_size, image_size)}
    try:
        model: nn.Module = _torchvision().get_model(config.model, weights=None, num_classes=outputs, **options)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"train.image_size: {config.model} cannot take {image_size} px ({error})") from error
    if channels != 3:
        _fit_first_layer(model, channels)
    set_head_dropout(model, config.dropout)
    set_drop_path(model, config.drop_path)
    return model


def cifar_resnet18(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> nn.Module:
    """ResNet-18 as it is used on CIFAR: torchvision's, its stem one 3x3 convolution of stride 1 and no pooling.

    At 32 px torchvision's own stem would leave 8 x 8 pixels for the first stage.
    """
    model = build(config.replace(model="resnet18"), outputs=outputs, channels=3, image_size=image_size)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    replace_module(model, "conv1", stem)
    replace_module(model, "maxpool", nn.Identity())
    return model


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
    found = [m for head in stages(model)[-1].modules for m in head.modules() if isinstance(m, nn.Dropout)]
    for dropout in found:
        dropout.p = p
    if not found:
        path = last_layer(model)
        replace_module(model, path, nn.Sequential(nn.Dropout(p), model.get_submodule(path)))


def set_drop_path(model: nn.Module, p: float) -> None:
    """Let the drop probability of the residual branches grow linearly from 0 to p; no effect where there are none."""
    from torchvision.ops import StochasticDepth

    branches = [m for m in model.modules() if isinstance(m, StochasticDepth)]
    for i, branch in enumerate(branches):
        branch.p = p * i / max(1, len(branches) - 1)


def published_weights(config: TrainConfig) -> dict[str, Tensor]:
    """Return the weights that torchvision publishes under the enum name in `config.weights` (downloaded, or from its cache)."""
    model: nn.Module = _torchvision().get_model(config.model, weights=_entry(config), progress=False)
    return model.state_dict()


def pipeline_facts(config: TrainConfig) -> dict[str, Any]:
    """Return image size, crop ratio, mean, std and interpolation that belong to the weights.

    A file is taken for weights of the architecture's first published entry: IMAGENET1K_V1 wherever there is one.
    """
    preset: Any = _entry(config).transforms()
    (size,), (resized,) = preset.crop_size, preset.resize_size
    halves = config.model in _HALVES
    return {
        "image_size": size,
        "crop_ratio": size / resized,
        "mean": (0.5, 0.5, 0.5) if halves else tuple(preset.mean),
        "std": (0.5, 0.5, 0.5) if halves else tuple(preset.std),
        "interpolation": preset.interpolation.value,
    }


def smallest_size(model: str) -> int:
    """Return the smallest image side the architecture takes (transformers state their weights' size instead: 1 for them)."""
    if model.startswith((*FIXED_SIZE, "swin_")):
        return 1
    return int(max(_torchvision().get_model_weights(model).DEFAULT.meta["min_size"]))


def _entry(config: TrainConfig) -> Any:
    """Return the member of the architecture's weights enum that the `weights` knob means."""
    entries = _torchvision().get_model_weights(config.model)
    if is_file(config.weights):
        return next(iter(entries))
    name = config.weights.rpartition(".")[2]
    if name == "default":
        return entries.DEFAULT
    if name not in entries.__members__:
        raise ValueError(
            f"train.weights: got {config.weights!r} for {config.model}, "
            f"allowed: none, default, {', '.join(entries.__members__)}, or a .pth/.safetensors file"
        )
    return entries[name]
