"""Early stopping: a run is over when no validation score has improved for some epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Patience:
    """Counts epochs without a better validation loss or accuracy (either one counts); a patience of 0 never stops."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.waited = epochs, 0
        self.best_loss, self.best_accuracy = math.inf, -math.inf

    def update(self, loss: float, accuracy: float = -math.inf) -> bool:
        """Take one epoch's scores and tell whether patience has run out."""
        better = loss < self.best_loss or accuracy > self.best_accuracy
        self.best_loss, self.best_accuracy = min(loss, self.best_loss), max(accuracy, self.best_accuracy)
        self.waited = 0 if better else self.waited + 1
        return 0 < self.epochs <= self.waited

    def state(self) -> dict[str, float]:
        """Return what `load_state` needs to go on."""
        return {"waited": self.waited, "best_loss": self.best_loss, "best_accuracy": self.best_accuracy}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.waited = int(state["waited"])
        self.best_loss, self.best_accuracy = float(state["best_loss"]), float(state["best_accuracy"])
