"""The device a run uses and its numerics: choice, precision and seeded scopes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.config import TrainConfig
from trainables.randomness import key

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, precision: str = "fp32", *, training: bool = False) -> torch.device:
    """Return the torch device of "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps".

    Raises ValueError for a device that this machine has not got, and for Apple's "mps" where float64 is needed: by the
    precision, or by the counter-based draws (augmentation, dropout) of training.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        allowed = ", ".join(["auto", *(kind for kind, there in present.items() if there)])
        raise ValueError(f"train.device: got {name!r}, which this machine has not got; allowed here: {allowed}")
    if name == "mps" and (training or precision == "fp64"):
        raise ValueError("train.device: got 'mps', which has no float64 and serves predictions alone; allowed here: auto, cpu")
    return torch.device(name)


def parameter_dtype(precision: str) -> torch.dtype:
    """Return the dtype in which weights are held: float64 for "fp64", else float32."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the forward pass runs: autocast for "bf16" and "fp16", else nothing."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return the gradient scaler: active for "fp16", whose small gradients would vanish, else passing through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def place(model: torch.nn.Module, config: TrainConfig, device: torch.device) -> torch.nn.Module:
    """Move a model to its device, dtype and memory layout, in place."""
    model.to(device=device, dtype=parameter_dtype(config.precision))
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:  # torch knows the layout for these alone
            tensor.data = tensor.data.to(memory_format=memory_format(config))
    return model


def memory_format(config: TrainConfig) -> torch.memory_format:
    """Return torch's name of the layout in which images and 4-D weights are held ("auto", not settled yet: contiguous)."""
    return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format


@contextlib.contextmanager
def seeded(seed: int | Tensor, stream: str, *words: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators from (seed, stream, words) inside the block and put them back as they were after it."""
    number = int(key(seed, stream, *words)) & (2**63 - 1)
    cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else [], device_type="cuda"):
        torch.default_generator.manual_seed(number)
        if cuda:
            torch.cuda.manual_seed(number)
        yield


def to_cpu(value: Any) -> Any:
    """Return a copy of nested dicts, lists and tuples with every tensor on the CPU and in memory of its own."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: to_cpu(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(inner) for inner in value)
    return value
