"""The optimiser of a config: parameter groups with their own scale and decay, the rate of each step, gradient clipping."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from trainables.config import TrainConfig
from trainables.models.freezing import trainable_stages
from trainables.models.stages import stages


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return optimiser groups of all parameters that train at some epoch of the run, one for each (rate scale, decay).

    A stage's rate is `lr * layer_decay ** (stages above it)`, kept as the group's `lr_scale`. Weight decay leaves out norms and
    biases (all parameters of one dimension). Stages still to be thawed are in: without gradients an optimiser skips them.
    """
    found = stages(model)
    first = len(found) - trainable_stages(config, len(found))
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for i, stage in enumerate(found[first:], start=first):
        scale = config.layer_decay ** (len(found) - 1 - i)
        for parameter in stage.parameters():
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr * scale,
            "lr_scale": scale,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (scale, decays), parameters in groups.items()
    ]


def _without_compiler(family: type[Optimizer]) -> Any:
    """Return a family of optimisers whose methods are torch's own without their wrappers for torch's compiler.

    The wrappers import all of the compiler when they are first called, whether anything is compiled or not: 1.7 CPU seconds of
    each process that trains. What is compiled here is the network alone (`train.compile`).
    """
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    own = {name: inspect.unwrap(getattr(family, name)) for name in wrapped}
    step = torch.no_grad()(inspect.unwrap(family.step))
    return type(family.__name__, (family,), {**own, "step": step, "__module__": __name__})


_FAMILIES = {name: _without_compiler(family) for name, family in (("sgd", SGD), ("adam", Adam), ("adamw", AdamW))}


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Return SGD (momentum, Nesterov), Adam or AdamW over the model's parameter groups."""
    groups, family = parameter_groups(model, config), _FAMILIES[config.optimizer]
    kind: dict[str, Any] = {"betas": (config.momentum, config.beta2)}
    if config.optimizer == "sgd":
        kind = {"momentum": config.momentum, "nesterov": config.nesterov and config.momentum > 0}
    optimizer: Optimizer = family(groups, lr=config.lr, fused=_fused(groups), **kind)
    return optimizer


def _fused(groups: list[dict[str, Any]]) -> bool | None:
    """Return True for heads on a CPU, whose steps are mostly calls (a sixth less time measured), else None: torch chooses.

    The fused step reads memory as it lies. Vectors and matrices lie one way only; the axes of a convolution's weights, its
    gradients and a state that was loaded may be in different orders.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(parameter.ndim <= 2 and parameter.device.type == "cpu" for parameter in parameters) or None


def set_lr(optimizer: Optimizer, config: TrainConfig, multiplier: float) -> None:
    """Set the rate of every group to `lr * its scale * multiplier`."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group["lr_scale"] * multiplier
