"""Layers of K packed models: activations stay [N, K*C, ...], parameters carry a leading K, so a model's `forward` is untouched.

Layout and idea: HFTA (Wang et al. 2021, arXiv:2102.02344), here without hand-ported models. A layer's parameter and buffer
names are those of the layer it replaces; slice k of each is the solo layer's tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.keyed_dropout import KeyedDropout
from trainables.models.cifar_resnet import PadShortcut


class NotPackable(ValueError):
    """This model holds a layer that cannot be packed by channels; the trial trains alone."""


def stacked(tensors: Sequence[Tensor | None]) -> nn.Parameter | None:
    """Return the K tensors as one parameter [K, ...] that needs a gradient where they do (None where the layer has none)."""
    present = [tensor for tensor in tensors if tensor is not None]
    if not present:
        return None
    return nn.Parameter(torch.stack([t.detach() for t in present]), requires_grad=present[0].requires_grad)


class SlotConv2d(nn.Module):
    """K convolutions as one grouped convolution."""

    def __init__(self, solos: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        first = solos[0]
        if first.padding_mode != "zeros":
            raise NotPackable(f"Conv2d with padding_mode {first.padding_mode!r}")
        self.slots, self.groups = len(solos), first.groups
        self.stride, self.padding, self.dilation = first.stride, first.padding, first.dilation
        self.weight = stacked([solo.weight for solo in solos])
        self.bias = stacked([solo.bias for solo in solos])

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*C, H, W] -> [N, K*D, H', W']."""
        assert self.weight is not None
        bias = None if self.bias is None else self.bias.flatten()
        groups = self.slots * self.groups
        return F.conv2d(x, self.weight.flatten(0, 1), bias, self.stride, self.padding, self.dilation, groups)


class SlotBatchNorm2d(nn.Module):
    """K batch norms as one over K*C channels; running statistics are updated in place through views."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, solos: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__()
        first = solos[0]
        if first.momentum is None or not first.track_running_stats or not first.affine:
            raise NotPackable("BatchNorm2d without momentum, running statistics or affine parameters")
        self.momentum, self.eps = first.momentum, first.eps
        self.weight = stacked([solo.weight for solo in solos])
        self.bias = stacked([solo.bias for solo in solos])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, torch.stack([getattr(solo, name) for solo in solos]))

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*C, H, W] -> the same shape."""
        assert self.weight is not None and self.bias is not None
        if self.training:
            self.num_batches_tracked += 1
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)
        return F.batch_norm(x, mean, var, self.weight.flatten(), self.bias.flatten(), self.training, self.momentum, self.eps)


class SlotGroupNorm(nn.Module):
    """K group norms as one with K times the groups."""

    def __init__(self, solos: Sequence[nn.GroupNorm]) -> None:
        super().__init__()
        self.groups, self.eps = len(solos) * solos[0].num_groups, solos[0].eps
        self.weight = stacked([solo.weight for solo in solos])
        self.bias = stacked([solo.bias for solo in solos])

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*C, H, W] -> the same shape."""
        weight = None if self.weight is None else self.weight.flatten()
        bias = None if self.bias is None else self.bias.flatten()
        return F.group_norm(x, self.groups, weight, bias, self.eps)


class SlotLinear(nn.Module):
    """K linear layers as one batched product."""

    def __init__(self, solos: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.slots = len(solos)
        self.weight = stacked([solo.weight for solo in solos])
        self.bias = stacked([solo.bias for solo in solos])

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*F] -> [N, K*G]."""
        assert self.weight is not None
        if x.dim() != 2:
            raise NotPackable(f"Linear on a tensor of {x.dim()} dimensions")
        spread = torch.unflatten(x, 1, (self.slots, -1)).transpose(0, 1)
        weight = self.weight.transpose(1, 2)
        if self.bias is None:
            out = torch.bmm(spread, weight)
        elif x.device.type == "cpu":  # a product's gradient is summed in one order for any K, a broadcast's is not
            bias = torch.bmm(spread.new_ones(self.slots, len(x), 1), self.bias.unsqueeze(1))
            out = torch.baddbmm(bias, spread, weight)
        else:  # where products may be less exact than sums, and no order is promised
            out = torch.baddbmm(self.bias.unsqueeze(1), spread, weight)
        return out.transpose(0, 1).flatten(1)


class SlotPadShortcut(nn.Module):
    """K shortcuts without parameters: new zero channels go into each slot's own block."""

    def __init__(self, solos: Sequence[PadShortcut]) -> None:
        super().__init__()
        self.slots, self.solo = len(solos), solos[0]

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*C, H, W] -> [N, K*D, H', W']."""
        out: Tensor = self.solo(torch.unflatten(x, 1, (self.slots, -1)).flatten(0, 1))
        return torch.unflatten(out, 0, (-1, self.slots)).flatten(1, 2)


def slot_dropout(solos: Sequence[KeyedDropout]) -> KeyedDropout:
    """Return one keyed dropout with the slots' probabilities."""
    return KeyedDropout(torch.cat([solo.p for solo in solos]), layer=solos[0].layer, kind=solos[0].kind)


PACKED: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv2d: SlotConv2d,
    nn.BatchNorm2d: SlotBatchNorm2d,
    nn.GroupNorm: SlotGroupNorm,
    nn.Linear: SlotLinear,
    PadShortcut: SlotPadShortcut,
    KeyedDropout: slot_dropout,
}
"""Leaf layer -> its packed form; layers without parameters that act on each channel alone pass as they are."""

CHANNELWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.Identity,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten,
)  # fmt: skip
"""Layers that need no change, since they never mix channels."""
