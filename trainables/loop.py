"""The training step and the evaluation pass: they touch what they are given and nothing else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.contract import NonFiniteLoss
from trainables.losses import Loss
from trainables.runtime import autocast, make_scaler
from trainables.scoring import PassScores

CHECK_EVERY = 32
"""Steps between looks at the loss: each look waits for the device."""


@dataclass(frozen=True)
class Batch:
    """What one step needs: images [B, C, H, W] as the model takes them, what to train towards, and the true labels."""

    images: Tensor
    targets: Tensor
    """Classes [B], mixed probabilities [B, C], or values [B]."""
    labels: Tensor
    """Classes or values [B], also where targets are mixed."""


@dataclass(frozen=True)
class StepRules:
    """How a step is taken, whatever the batch: loss, precision and gradient clipping (norm; 0: off)."""

    loss: Loss
    precision: str = "fp32"
    clip_norm: float = 0.0


@dataclass(frozen=True)
class StepResult:
    """What a step computed, still on its device: outputs [B, C], losses [B] and the gradient's norm before clipping."""

    outputs: Tensor
    losses: Tensor
    grad_norm: Tensor


def forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the model's outputs [B, C] in the precision of its parameters or better, computed under autocast."""
    with autocast(precision, images.device):
        outputs: Tensor = model(images)
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    *,
    rules: StepRules,
    scaler: torch.amp.GradScaler | None = None,
) -> StepResult:
    """Take one optimiser step on one batch, with the model in the mode it is in.

    Parameters, buffers, optimiser state and scaler are changed in place; nothing else is read or written except torch's
    generator, by dropout. Parameters without `requires_grad` stay.
    """
    scaler = scaler or make_scaler("fp32", images.device)
    parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:  # as `zero_grad` does, without the profiler's range that it opens each time
        parameter.grad = None
    outputs = forward(model, images, rules.precision)
    losses = rules.loss(outputs, targets)
    scaler.scale(losses.mean()).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    grad_norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if rules.clip_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, rules.clip_norm, grad_norm)
    scaler.step(optimizer)
    scaler.update()
    return StepResult(outputs.detach(), losses.detach(), grad_norm)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    rules: StepRules,
    task: str = "classification",
    scaler: torch.amp.GradScaler | None = None,
    before_step: Callable[[int], None] = lambda _: None,
    after_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train on every batch and return the pass's scores and mean "grad_norm" under bare names; raises NonFiniteLoss.

    `before_step(i)` is called with the step's number in the epoch (it sets the learning rate), `after_step()` once the
    parameters have moved (it averages them).
    """
    scores, norms = PassScores(task), list[Tensor]()
    unseen: list[Tensor] = []
    for number, batch in enumerate(batches):
        before_step(number)
        result = train_step(model, optimizer, batch.images, batch.targets, rules=rules, scaler=scaler)
        after_step()
        scores.add(result.outputs, batch.labels, result.losses)
        norms.append(result.grad_norm)
        unseen.append(result.losses)
        if len(unseen) == CHECK_EVERY:
            _check_finite(unseen, number)
            unseen.clear()
    if not norms:
        raise ValueError("train_epoch: got no batch; is the training split empty?")
    if unseen:
        _check_finite(unseen, len(norms) - 1)
    norm = torch.stack(norms).double()
    finite = norm[norm.isfinite()]  # the fp16 scaler skips steps whose gradients overflowed
    return {**scores.summary(), "grad_norm": float(finite.mean()) if len(finite) else float("inf")}


def _check_finite(losses: list[Tensor], step: int) -> None:
    total = float(torch.cat(losses).sum())
    if not math.isfinite(total):
        raise NonFiniteLoss(f"the loss became {total} by step {step + 1} of the epoch")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode without gradients inside the block, and back in its own mode after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def evaluate(model: nn.Module, batches: Iterable[Tensor], *, precision: str = "fp32") -> NDArray[np.float32]:
    """Return the outputs [N, C] of all batches, float32 on the CPU, in evaluation mode and without gradients.

    `model` maps a batch of whatever kind the caller feeds to [B, C]; every module's mode is as it was after the call.
    """
    found: list[Tensor] = []
    with evaluating(model):
        for images in batches:
            found.append(forward(model, images, precision).float())
        return torch.cat(found).cpu().numpy()
