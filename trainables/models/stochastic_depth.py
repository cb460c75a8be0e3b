"""Stochastic depth of Huang et al. 2016 (arXiv:1603.09382): a sample's residual branch is dropped whole.

The same as torchvision's in its mode "row", without importing it: our own nets predict without torch's compiler, which comes
with torchvision (and with the first optimiser).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Drops a sample's branch with probability p in training and scales what is kept by 1 / (1 - p), [N, ...]."""

    mode = "row"

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """Drop in training mode, pass in evaluation mode."""
        if not self.training or self.p == 0.0:
            return branch
        kept = torch.empty([len(branch)] + [1] * (branch.dim() - 1), dtype=branch.dtype, device=branch.device)
        return branch * (kept.bernoulli_(1.0 - self.p) / (1.0 - self.p) if self.p < 1.0 else kept.zero_())
