"""What may follow the pooled temperature, as modules that ONNX can hold: vector scaling, and isotonic curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

PROB_FLOOR = 2.0**-24
"""Smallest probability a logarithm sees: the smallest positive float16, as the prediction bank rounds."""


def calibrator_module(stored: Mapping[str, Any]) -> nn.Module:
    """Return the module of {"scale_C", "bias_C"} (vector scaling) or {"inputs", "outputs"} (knots of a curve a class)."""
    if "scale_C" in stored:
        return VectorScale(stored["scale_C"], stored["bias_C"])
    return IsotonicCurves(stored["inputs"], stored["outputs"])


class VectorScale(nn.Module):
    """softmax(scale * log p + bias), [N, C]."""

    scale: Tensor
    bias: Tensor

    def __init__(self, scale_C: Sequence[float], bias_C: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale_C, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(bias_C, dtype=torch.float32))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return calibrated probabilities; rows sum to one."""
        return torch.softmax(torch.log(probabilities.clamp_min(PROB_FLOOR)) * self.scale + self.bias, dim=1)


class IsotonicCurves(nn.Module):
    """One piecewise linear curve a class, flat beyond its ends; rows are normalised after, [N, C].

    A curve is its first height plus each segment's rise times how much of the segment lies below the probability: ONNX has no
    interpolation between knots, and clamping cannot overshoot where a segment is next to vertical. Classes with fewer knots
    are filled up with segments that do not rise.
    """

    start: Tensor
    left: Tensor
    width: Tensor
    rise: Tensor

    def __init__(self, inputs: Sequence[Sequence[float]], outputs: Sequence[Sequence[float]]) -> None:
        super().__init__()
        most = max(map(len, inputs))
        x_CK, y_CK = (_filled(knots, most) for knots in (inputs, outputs))
        self.register_buffer("start", y_CK[:, 0])
        self.register_buffer("left", x_CK[:, :-1])
        self.register_buffer("width", x_CK.diff(dim=1).clamp_min(torch.finfo(torch.float32).tiny))
        self.register_buffer("rise", y_CK.diff(dim=1))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return calibrated probabilities; rows sum to one."""
        below = ((probabilities[:, :, None] - self.left) / self.width).clamp(0.0, 1.0)
        curve = (self.start + (below * self.rise).sum(dim=2)).clamp_min(PROB_FLOOR)
        return curve / curve.sum(dim=1, keepdim=True)


def _filled(knots: Sequence[Sequence[float]], most: int) -> Tensor:
    """Return the knots of each class [C, most], the last of each repeated."""
    return torch.tensor([[*own, *[own[-1]] * (most - len(own))] for own in knots], dtype=torch.float32)
