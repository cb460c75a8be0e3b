"""The known mistakes of modes and input pipelines as checks on a model and its data; each answers in one sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.augment import to_float
from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.image_model import ImageModel
from trainables.inference import prepare
from trainables.loop import evaluate
from trainables.models import InputPipeline, apply_depth, input_pipeline
from trainables.runtime import seeded

TOLERANCE = 1e-4
"""Largest difference of two probabilities that rounding may make."""
SAMPLE = 64
"""Images that each check looks at."""


@dataclass(frozen=True)
class GuardResult:
    """What one check found."""

    name: str
    ok: bool
    message: str


def run_guards(config: TrainConfig, splits: Splits) -> list[GuardResult]:
    """Run every check on the model that `config` names and on `splits`; raises ValueError when it cannot even be built."""
    trained = ImageModel(config.replace(device="cpu", precision="fp32", compile="off"), splits)
    images = torch.from_numpy(np.array(splits.val.images[:SAMPLE]))
    inference = trained.inference()
    return [
        restores_mode(inference, images),
        deterministic(inference, images),
        holds_frozen_norms(trained.model, config, prepare(to_float(images), trained.pipeline)),
        normalisation_fits(trained.pipeline, config, splits),
        batch_mates_do_not_matter(inference, splits.val),
    ]


def restores_mode(model: nn.Module, images: Tensor) -> GuardResult:
    """Check that evaluation leaves the mode of every module, every buffer and every gradient as it was."""
    model = copy.deepcopy(model).train()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, [images])
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    if moved:
        return GuardResult(
            "evaluation", False, f"evaluating the model changed {_some(moved)}; eval() does not stop its updates"
        )
    if [module.training for module in model.modules()] != modes:
        return GuardResult("evaluation", False, "evaluating the model left modules in another mode than before")
    return GuardResult("evaluation", True, "evaluation runs in evaluation mode and leaves modes and buffers as they were")


def deterministic(model: nn.Module, images: Tensor) -> GuardResult:
    """Check that evaluating the same images twice gives the same answers, whatever torch's generator holds."""
    answers = []
    for seed in (0, 1):
        with seeded(seed, "view"):
            answers.append(evaluate(model, [images]))
    gap = _gap(answers[0], answers[1])
    if gap > 0:
        message = (
            f"the same images got answers up to {gap:.2g} apart: something random (dropout, a transform) is on in evaluation"
        )
        return GuardResult("deterministic", False, message)
    return GuardResult("deterministic", True, "the same images get the same answers: nothing random reaches evaluation")


def holds_frozen_norms(
    model: nn.Module,
    config: TrainConfig,
    images: Tensor,
    *,
    freeze: Callable[[nn.Module, TrainConfig], None] = apply_depth,
) -> GuardResult:
    """Check that after `freeze` and `train()`, a training pass moves no statistics of BatchNorms whose weights are frozen."""
    model = copy.deepcopy(model)
    freeze(model, config)
    model.train()
    frozen = {
        name: copy.deepcopy(module.state_dict())
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters())
    }
    with torch.no_grad(), seeded(0, "dropout"):
        model(images)
    moved = [
        name
        for name, before in frozen.items()
        if any(not torch.equal(value, before[key]) for key, value in model.get_submodule(name).state_dict().items())
    ]
    if moved:
        message = f"train() moved the running statistics of frozen BatchNorm layers: {_some(moved)}; keep them in eval mode"
        return GuardResult("frozen_norms", False, message)
    return GuardResult("frozen_norms", True, f"{len(frozen)} frozen BatchNorm layers keep their statistics in training mode")


def normalisation_fits(pipeline: InputPipeline, config: TrainConfig, splits: Splits) -> GuardResult:
    """Check that images are normalised as for the weights or, without weights, to about zero mean and unit spread."""
    wanted = input_pipeline(config, splits)
    if config.weights != "none":
        wrong = [f"{n} {getattr(pipeline, n)}, not {getattr(wanted, n)}" for n in ("mean", "std", "image_size", "interpolation")
                 if getattr(pipeline, n) != getattr(wanted, n)]  # fmt: skip
        if wrong:
            return GuardResult(
                "normalisation", False, f"the images are not prepared as for {config.weights}: {'; '.join(wrong)}"
            )
        return GuardResult("normalisation", True, f"the images are prepared as the weights {config.weights} were trained")
    rows = np.linspace(0, len(splits.train) - 1, min(len(splits.train), 8 * SAMPLE)).astype(np.int64)
    images = prepare(to_float(torch.from_numpy(np.array(splits.train.images[rows]))), pipeline)
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    found = f"training images have mean {_numbers(mean)} and spread {_numbers(std)} as the network sees them"
    ok = bool((mean.abs() < 0.5).all() and (std > 0.5).all() and (std < 2).all())
    return GuardResult("normalisation", ok, found if ok else f"{found}; expected about 0 and 1: use this data's own statistics")


def batch_mates_do_not_matter(model: nn.Module, part: ImageSet) -> GuardResult:
    """Check that a batch of one class (regression: of the largest targets) gets the answers its rows get in a mixed batch."""
    order = np.argsort(part.targets, kind="stable")[::-1][:SAMPLE]
    mates = np.concatenate([order, np.setdiff1d(np.arange(len(part)), order)[: 3 * SAMPLE]])
    alone, mixed = (evaluate(model, [torch.from_numpy(np.array(part.images[rows]))]) for rows in (order, mates))
    gap = _gap(alone, mixed[: len(order)])
    if gap > TOLERANCE:
        message = (
            f"the same images got answers up to {gap:.2g} apart in a batch of one kind and in a mixed one: batch statistics"
        )
        return GuardResult("homogeneous_batch", False, f"{message} are used in evaluation")
    return GuardResult("homogeneous_batch", True, "an image gets the same answer whatever else is in its batch")


def _gap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.abs(first - second).max())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _numbers(values: Tensor) -> str:
    return "/".join(f"{float(value):.2f}" for value in values)
