"""The seam between how a model is trained and who asks for it: what a Trainable must do, and what one epoch returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainables.config import TrainConfig
    from trainables.data.dataset import Splits

Metrics = dict[str, float]
"""Flat metric names as MLflow shows them: "train/loss", "val/accuracy", "val/log_loss", "lr", "epoch_seconds", ..."""


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite: the trial ends with this reason and keeps its last good epoch."""


@dataclass(frozen=True)
class Outcome:
    """What one call of `step` gives: the epoch just trained (1-based), its metrics, and whether training is over."""

    epoch: int
    metrics: Metrics = field(default_factory=dict)
    done: bool = False
    stop_reason: str = ""
    """"" while running; "budget" (all epochs), "patience"."""


class Trainable(Protocol):
    """A model in training: one epoch a step, probabilities of a split, and a complete state."""

    def __init__(self, config: TrainConfig, splits: Splits) -> None:
        """Build the model from `config` and `splits`; every random draw comes from `config.seed`."""

    def step(self) -> Outcome:
        """Train one epoch and evaluate on the validation split; raises NonFiniteLoss."""

    def predict(self, split: str) -> NDArray[np.float32]:
        """Return probabilities [N, C] (regression: values [N, 1]) of "train", "val" or "test" in dataset order."""

    def state(self) -> dict[str, Any]:
        """Return everything a later `load_state` needs to go on bit for bit (weights, optimiser, schedule, epoch).

        In memory of its own: it is written beside the training, which goes on.
        Only tensors, numbers, strings, lists and dicts, so that `torch.load(weights_only=True)` reads it back.
        """

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""

    def weights(self) -> dict[str, Any]:
        """Return the inference weights (the averaged ones where EMA or SWA is on) as name -> CPU tensor."""
