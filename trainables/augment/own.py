"""Own transforms by "module:callable", an Albumentations pipeline for instance: one uint8 [H, W, C] image at a time."""

from __future__ import annotations

import importlib
import inspect
import random
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment.draws import Draws


def apply_own(images: Tensor, name: str, draws: Draws) -> Tensor:
    """Return uint8 [B, H, W, C] after `callable(image=array)` on each image, seeded by (trial, epoch, sample).

    The callable returns an array of the same shape, or a dict that holds it under "image". Its seed reaches it as the argument
    `seed`, by its method `set_random_seed`, or else by Python's and numpy's global generators, which are put back afterwards.
    """
    transform = load_own(name)
    seeds = (draws.uniform("own").squeeze(-1) * 2**31).to(torch.int64).tolist()
    done = [_call(transform, image, seed, name) for image, seed in zip(images.cpu().numpy(), seeds, strict=True)]
    return torch.from_numpy(np.stack(done)).to(images.device)


def own_ops(name: str) -> Iterable[str]:
    """Return the operations an own transform declares in its attribute `ops`."""
    ops: Iterable[str] = getattr(load_own(name), "ops", ())
    return ops


@cache
def load_own(name: str) -> Callable[..., Any]:
    """Return the callable of "module:callable"; raises ValueError when there is none."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as fault:
        raise ValueError(
            f"train.augmentation: cannot load {name!r}: {fault}; it must be importable as module:callable"
        ) from fault
    if not callable(found):
        raise ValueError(f"train.augmentation: {name!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]


def _call(transform: Callable[..., Any], image: np.ndarray[Any, Any], seed: int, name: str) -> np.ndarray[Any, Any]:
    result = _seeded(transform, image.copy(), seed)
    result = np.asarray(result["image"] if isinstance(result, dict) else result)
    if result.shape != image.shape or result.dtype != np.uint8:
        raise ValueError(
            f"train.augmentation: {name} must return uint8 {image.shape}, as it was given; got {result.dtype} {result.shape}"
        )
    return result


def _seeded(transform: Callable[..., Any], image: np.ndarray[Any, Any], seed: int) -> Any:
    if hasattr(transform, "set_random_seed"):
        transform.set_random_seed(seed)
        return transform(image=image)
    if "seed" in _parameters(transform):
        return transform(image=image, seed=seed)
    before, before_numpy = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        return transform(image=image)
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


@cache
def _parameters(transform: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(transform).parameters)
