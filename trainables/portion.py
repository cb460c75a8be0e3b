"""The part of the training split that one trial learns from: which rows, towards what, and in which order each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import TrainConfig
from trainables.data.dataset import Splits
from trainables.data.rows import rows_of
from trainables.feed import balanced, shuffled, steps_per_epoch
from trainables.runtime import parameter_dtype
from trainables.teacher import teacher_of


@dataclass(frozen=True, eq=False)
class Portion:
    """Chosen training rows [N] with what belongs to each; a position is a place among them."""

    rows: NDArray[np.int64]
    targets: NDArray[Any]
    """The rows' targets as the split has them."""
    labels: Tensor
    """The same on the device: classes, or values less `shift`, over `scale`."""
    aims: Tensor
    """What the rows are trained towards: a teacher's answers where there is one, else `labels` itself."""
    steps: int
    """Steps of an epoch."""
    seed: int
    balances: bool
    """Whether an epoch draws each class equally often, with replacement."""
    shift: float = 0.0
    scale: float = 1.0

    def order(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return positions [N] in the order of an epoch, and a number for each that names its random draws."""
        if self.balances:
            positions = balanced(self.targets.astype(np.int64), seed=self.seed, epoch=epoch)
            return positions, torch.arange(len(positions))
        positions = shuffled(len(self.rows), seed=self.seed, epoch=epoch)
        return positions, positions


def choose_portion(config: TrainConfig, splits: Splits, device: torch.device) -> Portion:
    """Return the rows that a configuration names; raises ValueError naming the knob that does not fit the data."""
    rows = rows_of(config, splits.train.targets)
    targets: NDArray[Any] = splits.train.targets[rows]
    drawn, shift, scale = targets, 0.0, 1.0
    if config.task == "regression":
        shift, scale = float(drawn.mean()), float(drawn.std()) or 1.0
        drawn = (drawn - shift) / scale
    labels = aims = torch.from_numpy(drawn).to(device)
    taught = teacher_of(config, len(splits.train), splits.outputs)
    if taught is not None:
        aims = ((torch.from_numpy(taught[rows]).to(parameter_dtype(config.precision)) - shift) / scale).to(device)
    return Portion(
        rows, targets, labels, aims, steps=steps_per_epoch(len(rows), config.batch_size), seed=config.seed,
        balances=config.sampler == "balanced", shift=shift, scale=scale,
    )  # fmt: skip
