"""Pretrained weights from a file: read without running its code, fitted by strict keys, with the pipeline they may carry."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.stages import last_layer

SUFFIXES = (".pth", ".pt", ".safetensors")
PIPELINE_KEY = "pipeline"
"""Metadata entry of a .safetensors file: the JSON of the input pipeline its weights were trained with."""
_IGNORED = ("aux1.", "aux2.", "AuxLogits.", "target.")
"""Training-only auxiliary classifiers, and the target scale of a regression."""


def is_file(weights: str) -> bool:
    """Tell whether the `weights` knob names a file."""
    return weights.endswith(SUFFIXES)


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a .pth / .pt (state_dict) or .safetensors file by name; raises ValueError saying what is wrong."""
    file = _existing(path)
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(file))
        except SafetensorError as error:
            raise ValueError(f"train.weights: {path} is no readable safetensors file ({error})") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"train.weights: {path} holds more than tensors, or is damaged; save model.state_dict() to it ({error})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = list(state)[:5] if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"train.weights: {path} is no state_dict (name -> tensor), it holds {keys}; save model.state_dict()")
    return dict(state)


def read_pipeline(path: str) -> dict[str, Any] | None:
    """Return the input pipeline that a .safetensors file carries in its metadata, if any."""
    file = _existing(path)
    if file.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(PIPELINE_KEY)
    return None if text is None else dict(json.loads(text))


def _existing(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f'train.weights: no file {path}; give "none", "default", a weights name, or a .pth/.safetensors file')
    return file


def load_strict(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights whose names and shapes are the model's own; only a head of another width stays freshly initialised.

    Raises ValueError naming the first few tensors that are missing, unknown or of another shape.
    """
    own, head = model.state_dict(), last_layer(model)
    given = _align_head({k: v for k, v in weights.items() if not k.startswith(_IGNORED)}, own, head)
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    unknown = [k for k in given if k not in own]
    shapes = [k for k in given if k in own and given[k].shape != own[k].shape]
    if all(k in (f"{head}.weight", f"{head}.bias") for k in shapes):
        given = {k: v for k, v in given.items() if k not in shapes}
        shapes = []
    if missing or unknown or shapes:
        raise ValueError(
            f"train.weights: {source} does not fit the model: {_some('missing', missing)}{_some('unknown', unknown)}"
            + _some("of another shape", [f"{k} {tuple(given[k].shape)}, not {tuple(own[k].shape)}" for k in shapes])
            + "choose the model that these weights belong to"
        )
    model.load_state_dict(given, strict=False)


def _align_head(weights: dict[str, Tensor], own: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """Give a bare head layer ("fc.weight") the name it has behind our dropout ("fc.1.weight")."""
    bare = head.removesuffix(".1")
    if f"{head}.weight" in weights or bare == head or f"{bare}.weight" in own:
        return weights
    renames = {f"{bare}.{kind}": f"{head}.{kind}" for kind in ("weight", "bias")}
    return {renames.get(key, key): value for key, value in weights.items()}


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({'; '.join(names[:3])}{'; ...' if len(names) > 3 else ''}); "
