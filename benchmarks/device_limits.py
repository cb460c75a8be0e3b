"""What a step costs and what a device can do at most: FLOPs and bytes counted, matmul rate and memory bandwidth measured."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from trainables.image_model import ImageModel
from trainables.loop import forward, train_step
from trainables.optim import build_optimizer
from trainables.timing import now

EPOCH = 50_000
"""Images of CIFAR-10's training split."""
TRIES = 7
"""The fastest of so many counts: a limit is what the device can do, not what it does on average."""


@dataclass(frozen=True)
class Limits:
    """What a device reaches in one precision: FLOP a second of a large square product, bytes a second of a large copy."""

    flops: float
    bytes: float
    arithmetic: str
    """In which the products are computed."""


@dataclass(frozen=True)
class Work:
    """What training costs by count, and what an epoch would take if the device did nothing but that at its limits."""

    flop_an_image: float
    bytes_an_image: float
    """Of an eager step, every operation reading its inputs and writing its outputs once."""
    floor_s: float
    """Seconds of an epoch's FLOPs at the matmul rate: no way of training goes below it."""
    traffic_s: float
    """Seconds of an epoch's bytes at the copy rate: what only fused operations or a cache go below."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def limits(precision: str, device: torch.device, *, side: int, megabytes: int) -> Limits:
    """Measure a product of two square matrices of this side and a copy of so many megabytes."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    with _as_convolutions() as arithmetic:
        product = _fastest(lambda: left @ right, device)
    source = torch.zeros(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = _fastest(lambda: target.copy_(source), device)
    said = precision if precision == "bf16" or device.type != "cuda" else f"{precision} ({arithmetic})"
    return Limits(2 * side**3 / product, 2 * source.numel() / copied, said)


@contextlib.contextmanager
def _as_convolutions() -> Iterator[str]:
    """Let float32 products use what torch lets convolutions use (TF32 unless told otherwise): the nets are convolutions."""
    kept: str = torch.backends.cuda.matmul.fp32_precision
    used: str = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = used
    try:
        yield used
    finally:
        torch.backends.cuda.matmul.fp32_precision = kept


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    found = []
    for _ in range(TRIES + 1):  # the first one allocates
        started = now(device)
        work()
        found.append(now(device) - started)
    return min(found[1:])


def work_of(model: ImageModel, images: Tensor, targets: Tensor, limit: Limits) -> Work:
    """Count the FLOPs and bytes of a model's own training step on one batch."""
    flop, moved = flops(model, images) / len(images), traffic(model, images, targets) / len(images)
    return Work(flop, moved, EPOCH * flop / limit.flops, EPOCH * moved / limit.bytes)


def flops(model: ImageModel, images: Tensor) -> int:
    """Return the FLOPs of convolutions and products of one batch, forward and backward (a multiply-add: 2)."""
    net = copy.deepcopy(model.model).train()
    with FlopCounterMode(display=False) as counter:
        forward(net, images, model.config.precision).sum().backward()  # type: ignore[no-untyped-call]
    counted: int = counter.get_total_flops()
    return counted


def traffic(model: ImageModel, images: Tensor, targets: Tensor) -> int:
    """Return the bytes that the operations of one eager step read and write, the optimiser's included."""
    net = copy.deepcopy(model.model).train()
    optimizer = build_optimizer(net, model.config)
    train_step(net, optimizer, images, targets, rules=model.rules)  # the first step also makes the optimiser's state
    with _Traffic() as counter:
        train_step(net, optimizer, images, targets, rules=model.rules)
    counted: int = counter.bytes
    return counted


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the sizes of what every operation that is not a view takes and returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        out = func(*args, **(kwargs or {}))
        changes = func._schema.is_mutable
        views = not changes and any(result.alias_info for result in func._schema.returns)
        if not views and "empty" not in str(func):
            written = out if out is not None else args[0] if changes else ()  # in-place operations on lists return nothing
            self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, written)) if isinstance(t, Tensor))
        return out
