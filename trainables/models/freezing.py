"""Fine-tuning depth: which stages train at which epoch, and freezing that holds BatchNorm statistics too.

A frozen stage has `requires_grad` off and stays in eval mode through any later `model.train()`, so neither its weights nor its
running statistics move and its dropouts are off, as when its activations are cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.config import TrainConfig
from trainables.models.stages import Stage, stages


def trainable_stages(config: TrainConfig, count: int, epoch: int | None = None) -> int:
    """Return how many of `count` stages train, counted from the head, at a 0-based epoch (None: at the end of the run)."""
    extra = count - 1 if config.finetune_depth == "all" else int(config.finetune_depth.replace("head", "last_0")[5:])
    if config.gradual_epochs and epoch is not None:
        extra = min(extra, epoch // config.gradual_epochs)
    return min(count, 1 + extra)


def apply_depth(model: nn.Module, config: TrainConfig, epoch: int = 0) -> None:
    """Freeze and thaw the stages as `finetune_depth`, `gradual_epochs` and `bn` say for this 0-based epoch; repeatable."""
    found = stages(model)
    first = len(found) - trainable_stages(config, len(found), epoch)
    for module in model.modules():
        _release(module)
    for i, stage in enumerate(found):
        _set_trainable(stage, i >= first)
    if config.bn == "frozen":
        for module in _batch_norms(model):
            _hold_in_eval(module)
    model.train(model.training)


def _set_trainable(stage: Stage, trainable: bool) -> None:
    for parameter in stage.parameters():
        parameter.requires_grad_(trainable)
    if not trainable:
        for module in stage.modules:
            for inner in module.modules():
                _hold_in_eval(inner)


def train(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for the `train` method of a held module: eval mode, whatever is asked."""
    del mode
    nn.Module.train(module, False)
    return module


def _hold_in_eval(module: nn.Module) -> None:
    module.__dict__["train"] = MethodType(train, module)


def _release(module: nn.Module) -> None:
    module.__dict__.pop("train", None)


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def is_held(module: nn.Module) -> bool:
    """Tell whether the module is kept in eval mode."""
    return "train" in module.__dict__


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics of all BatchNorms that are not frozen afresh, as plain averages over the batches.

    Batches are normalised images [B, C, H, W]. All else is in eval mode meanwhile (no dropout); modes are put back at the end.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and not is_held(m)]
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches if norms else ():
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)
