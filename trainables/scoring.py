"""Scores of a training pass from what it computed anyway: a few numbers a row, kept on the device until the epoch ends."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.metrics import calibration_error, regression_scores

HELD = 1 << 20
"""Outputs that are kept before they are scored: many small batches are scored at once, large ones each alone."""


class PassScores:
    """Collects per-row columns of a training pass and sums them up once; reads nothing back before that."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.columns: list[Tensor] = []
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._held = 0

    def add(self, outputs: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Take a batch's logits [B, C] (or values [B, 1]), true classes (values) [B] and losses [B]; nobody may change them."""
        self._waiting.append((outputs.detach(), labels, losses.detach()))
        self._held += outputs.numel()
        if self._held >= HELD:
            self._score()

    def _score(self) -> None:
        """Turn the batches that wait into columns."""
        outputs, labels, losses = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._held = [], 0
        if self.task == "regression":
            columns = [losses, outputs.squeeze(-1), labels]
        else:
            log_p = torch.log_softmax(outputs, dim=-1)
            p = log_p.exp()
            confidence, predicted = p.max(dim=-1)
            chosen = log_p.gather(-1, labels[:, None]).squeeze(-1)
            brier = p.square().sum(dim=-1) - 2 * chosen.exp() + 1
            columns = [losses, predicted == labels, -chosen, brier, confidence]
        self.columns.append(torch.stack([column.to(losses.dtype) for column in columns]))

    def summary(self) -> dict[str, float]:
        """Return the pass's mean loss and scores under bare names."""
        if self._waiting:
            self._score()
        columns = torch.cat(self.columns, dim=1).double().cpu().numpy()
        if self.task == "regression":
            return {**regression_scores(columns[1], columns[2]), "loss": float(columns[0].mean())}
        loss, accuracy, log_loss, brier = (float(value) for value in columns[:4].mean(axis=1))
        ece = calibration_error(columns[4], columns[1].astype(np.bool_))
        return {"loss": loss, "accuracy": accuracy, "log_loss": log_loss, "brier": brier, "ece": ece}
