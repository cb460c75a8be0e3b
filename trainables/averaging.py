"""Averaged weights (EMA and SWA), and BatchNorm statistics measured anew for weights that no batch was normalised with."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.freezing import recalibrate_bn


class WeightAverage:
    """A second model that holds the running average of the first one's parameters: "ema" (a step) or "swa" (an epoch)."""

    def __init__(self, model: nn.Module, kind: str, *, decay: float = 0.99) -> None:
        self.kind, self.decay, self.count = kind, decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's present parameters in.

        EMA keeps min(decay, (1 + n) / (10 + n)) of the old average after n updates, so that early epochs are not the
        random start (Tarvainen and Valpola 2017); SWA keeps n / (n + 1) (Izmailov et al. 2018).
        """
        count = self.count
        keep = count / (count + 1) if self.kind == "swa" else min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(self.model.parameters()), [value.detach() for value in model.parameters()], 1 - keep)
        self.count += 1

    @torch.no_grad()
    def refresh_buffers(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Copy the model's buffers, then measure BatchNorm statistics of the averaged weights on `batches`; frozen stay."""
        for own, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(buffer)
        recalibrate_bn(self.model, batches)

    def state(self) -> dict[str, Any]:
        """Return the average and how many updates it has seen."""
        return {"count": self.count, "model": self.model.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.count = int(state["count"])
        self.model.load_state_dict(state["model"])
