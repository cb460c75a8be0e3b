"""Losses a row: cross-entropy with smoothing, soft targets and class weights, focal, and the three of regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainables.config import TrainConfig

CLASSIFICATION = ("cross_entropy", "focal")
REGRESSION = ("mse", "mae", "huber")


@dataclass(frozen=True)
class Loss:
    """A loss that maps outputs and targets to one value a row; call `.mean()` on it to train."""

    kind: str
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    class_weights: Tensor | None = None
    """[C], mean 1 over the training rows; each row's value is multiplied by its class's."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return [B] from logits [B, C] and classes [B] or probabilities [B, C]; or from values [B, 1] and values [B]."""
        if self.kind == "cross_entropy":
            weights = None if self.class_weights is None else self.class_weights.to(outputs)
            soft = targets.to(outputs.dtype) if targets.is_floating_point() else targets
            return F.cross_entropy(outputs, soft, weight=weights, label_smoothing=self.label_smoothing, reduction="none")
        if self.kind == "focal":
            return self._focal(outputs, targets)
        values = outputs.squeeze(-1)
        targets = targets.to(values.dtype)
        if self.kind == "mse":
            return F.mse_loss(values, targets, reduction="none")
        if self.kind == "mae":
            return F.l1_loss(values, targets, reduction="none")
        return F.huber_loss(values, targets, reduction="none")

    def _focal(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Lin et al. 2017, (1 - p)^gamma * cross-entropy, summed over classes so that soft targets work too."""
        log_p = F.log_softmax(logits, dim=-1)
        share = targets if targets.is_floating_point() else F.one_hot(targets, logits.shape[-1])
        share = share.to(log_p.dtype) * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        if self.class_weights is not None:
            share = share * self.class_weights.to(log_p)
        return -(share * (1 - log_p.exp()) ** self.focal_gamma * log_p).sum(dim=-1)


def build_loss(config: TrainConfig, targets: NDArray[np.generic], outputs: int) -> Loss:
    """Return the loss of a config; `targets` [N] of the training rows give the balanced class weights.

    Raises ValueError when the loss and the task do not go together.
    """
    allowed = CLASSIFICATION if config.task == "classification" else REGRESSION
    kind = allowed[0] if config.loss == "auto" else config.loss
    if kind not in allowed:
        raise ValueError(f"train.loss: got {kind!r} for task {config.task!r}, allowed: auto, {', '.join(allowed)}")
    weights = None
    if config.class_weights == "balanced":
        if config.task != "classification":
            raise ValueError("train.class_weights: got 'balanced' for task 'regression', allowed: none")
        weights = balanced_weights(targets, outputs)
    return Loss(kind, config.label_smoothing, config.focal_gamma, weights)


def balanced_weights(targets: NDArray[np.generic], classes: int) -> Tensor:
    """Return N / (C * count of the class) [C] (0 for classes that do not occur), scikit-learn's "balanced"."""
    counts = np.bincount(targets.astype(np.int64), minlength=classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return torch.from_numpy(weights)
