"""The one door to timm: any of its classification backbones as "timm:NAME", where timm is installed."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.models.torchvision_models import set_head_dropout

PREFIX = "timm:"


def _timm(model: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"train.model: {model} needs timm; install it with: pip install 'orchestrate-ensembles[timm]'"
        ) from error
    module: ModuleType = timm
    return module


def _known(model: str) -> tuple[ModuleType, str]:
    timm, name = _timm(model), model.removeprefix(PREFIX)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        raise ValueError(f"train.model: timm has no model {name!r}; nearest: {', '.join(near) or 'none'}")
    return timm, name


def build(config: TrainConfig, *, outputs: int, channels: int, image_size: int) -> nn.Module:
    """Build the backbone with fresh weights; the dropout knob is a module before the last layer, as in every family here."""
    timm, name = _known(config.model)
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    if image_size and fixed_size(config.model):
        options["img_size"] = image_size
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs, in_chans=channels, **options)
    set_head_dropout(model, config.dropout)
    return model


def published_weights(model: str) -> dict[str, Tensor]:
    """Return the weights that timm publishes under this name (downloaded, or from its cache)."""
    timm, name = _known(model)
    weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return weights


def fixed_size(model: str) -> bool:
    """Tell whether the family is built for one image side."""
    return bool(_configuration(model).fixed_input_size)


def pipeline_facts(model: str) -> dict[str, Any]:
    """Return image size, crop ratio, mean, std and interpolation that timm states for the model's weights."""
    facts = _configuration(model)
    return {
        "image_size": int(facts.input_size[-1]),
        "crop_ratio": float(facts.crop_pct),
        "mean": tuple(facts.mean),
        "std": tuple(facts.std),
        "interpolation": "bicubic" if facts.interpolation == "bicubic" else "bilinear",
    }


def _configuration(model: str) -> Any:
    timm, name = _known(model)
    return timm.get_pretrained_cfg(name)
