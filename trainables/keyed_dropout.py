"""Dropout whose masks come from counters, for one model or K packed ones: no draw depends on other slots or on a restart.

torch's own dropout takes its mask from one global stream, so a resumed run or a packed trial would see other masks than a solo
run. Here the mask of (seed, step, layer, element) is a hash of just those (`trainables.randomness`), the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainables.randomness import int32_draws, key

KINDS = ("element", "channel", "row")
"""What one draw decides: one activation (Dropout), one map of a sample (Dropout2d), a sample's branch (stochastic depth)."""


PER_SLOT = ("p", "limit", "scale", "keys")
"""A layer's buffers [K]: probability, smallest draw that is kept, what is kept is multiplied with, key of the step."""
AHEAD = 1 << 15
"""Draws that are made at once for several steps, at most (measured on a CPU: as fast as larger lots, and small)."""

_opaque_draws = torch.library.custom_op("trainables::draws", int32_draws, mutates_args=())
"""The same as torch's compiler sees it: one operation, left alone. The code it makes of the hash of a counter is wrong where
the count is not fixed (torch 2.13, CPU: it multiplies the counter as an index, and 2 or 40 % were dropped for 30)."""
_opaque_draws.register_fake(lambda keys, pairs: keys.new_empty(*keys.shape, 2 * pairs, dtype=torch.int32))


class KeyedDropout(nn.Module):
    """Inverted dropout over [N, K*C, ...] with one probability and one key a slot; K = 1 is an ordinary model."""

    p: Tensor
    limit: Tensor
    scale: Tensor
    keys: Tensor

    def __init__(self, p: Tensor, *, layer: int, kind: str) -> None:
        """Take p as float64 [K]; `layer` tells this layer's draws from the other layers'."""
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r}, allowed: {', '.join(KINDS)}")
        self.layer, self.kind = layer, kind
        if not bool((p < 1).all()):
            raise ValueError(f"p: got {p.tolist()}, allowed: below 1")
        p = p.to(torch.float64)
        limit, scale = _limit_and_scale(p)
        for name, value in zip(PER_SLOT, (p, limit, scale, torch.zeros(len(p), dtype=torch.int64)), strict=True):
            self.register_buffer(name, value, persistent=False)
        self.off = not bool((p > 0).any())
        self.coming: _Coming | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training mode, pass in evaluation mode."""
        if not self.training or self.off:
            return x
        slots, one = len(self.p), x.dim() - 1  # dimensions of a sample
        own = {"element": one, "channel": 1, "row": 0}[self.kind]  # those with draws of their own
        shape = (x.shape[1] // slots, *x.shape[2:])[:own]
        mask = self._present_mask(x.shape[0] * math.prod(shape), x.dtype).view(slots, x.shape[0], *shape, *[1] * (one - own))
        if slots == 1:
            return x * mask[0]
        return (torch.unflatten(x, 1, (slots, -1)) * mask.transpose(0, 1)).flatten(1, 2)

    def _present_mask(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return what the present step's activations are multiplied with, [K, count]."""
        if torch.compiler.is_compiling() or self.coming is None or self.coming.now is not self.keys:
            return self.masks_of(self.keys, count, dtype)
        return self.coming.present_mask(self, count, dtype)

    def masks_of(self, keys: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        """Return 0 or 1 / (1 - p) for each of the keys [..., K]: [..., K, count]."""
        draws = (_opaque_draws if torch.compiler.is_compiling() else int32_draws)(keys, -(-count // 2))[..., :count]
        return (draws >= self.limit.unsqueeze(1)).to(dtype) * self.scale.unsqueeze(1).to(dtype)

    def set_p(self, slot: int, p: float) -> None:
        """Change one slot's probability."""
        self.p[slot] = p
        self.limit[slot], self.scale[slot] = _limit_and_scale(self.p[slot])
        self.off = not bool((self.p > 0).any())
        if self.coming is not None:
            self.coming.forget()

    def extra_repr(self) -> str:
        """Show what it drops."""
        return f"p={self.p.tolist()}, kind={self.kind}"


def keyed_layers(model: nn.Module) -> Iterator[KeyedDropout]:
    """Yield the model's keyed dropouts in order."""
    return (module for module in model.modules() if isinstance(module, KeyedDropout))


def use_keyed_dropout(model: nn.Module) -> nn.Module:
    """Replace every Dropout, Dropout2d and row-wise StochasticDepth in place by its keyed twin, and return the model."""
    layer = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            found = _probability(child)
            if found is not None:
                setattr(parent, name, KeyedDropout(torch.tensor([found[0]]), layer=layer, kind=found[1]))
                layer += 1
    return model


def _limit_and_scale(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest of all int32 that is kept where a share p of them is dropped, and what keeps the mean."""
    p = p.to(torch.float64)
    return (p * 2.0**32 - 2.0**31).ceil().to(torch.int32), 1 / (1 - p)


class _Coming:
    """A layer's keys of the steps to come [steps, K], and masks for several of them: small ones cost less made together."""

    def __init__(self, keys: Tensor) -> None:
        self.keys, self._each = keys, keys.unbind()
        self.now = self._each[0]
        self._number = self._first = 0
        self._masks: Tensor | None = None

    def go_to(self, number: int) -> Tensor:
        """Return the keys of a step, which is the present one from now on."""
        self._number, self.now = number, self._each[number]
        return self.now

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        """Leave a copied layer without: it has the key of its step, and its own steps to come."""

    def forget(self) -> None:
        """Let masks be made anew: a probability has changed."""
        self._masks = None

    def present_mask(self, layer: KeyedDropout, count: int, dtype: torch.dtype) -> Tensor:
        """Return the layer's mask of the present step, [K, count]."""
        made, at = self._masks, self._number - self._first
        if made is None or not 0 <= at < len(made) or count > made.shape[-1] or made.dtype != dtype:
            several = max(1, AHEAD // (self.keys.shape[1] * count))
            self._first, at = self._number, 0
            self._masks = made = layer.masks_of(self.keys[self._number : self._number + several], count, dtype)
        return made[at, :, :count]


class StepKeys:
    """The keys of a model's keyed dropouts at each of the next steps, hashed at once: far cheaper than step by step."""

    def __init__(self, model: nn.Module, seeds: int | Tensor, *, first: int | Tensor, count: int) -> None:
        """Take one seed and first step for all slots, or one of each a slot [K]; `count` steps follow one another."""
        self._layers = [(module, _Coming(_keys(module, seeds, first, count))) for module in keyed_layers(model)]

    def set(self, number: int) -> None:
        """Give every layer its keys of the step so many after the first."""
        for layer, coming in self._layers:
            layer.coming, layer._buffers["keys"] = coming, coming.go_to(number)


def set_keys(model: nn.Module, seeds: int | Tensor, step: int | Tensor) -> None:
    """Set every keyed dropout's keys for one training step from the slots' seeds and their own step counts."""
    StepKeys(model, seeds, first=step, count=1).set(0)


def _keys(module: KeyedDropout, seeds: int | Tensor, first: int | Tensor, count: int) -> Tensor:
    """Return the layer's keys [count, K]."""
    device = module.p.device
    steps = torch.as_tensor(first, device=device) + torch.arange(count, device=device).unsqueeze(1)
    return key(seeds, "dropout", steps, module.layer, device=device).expand(-1, len(module.p))


def _probability(module: nn.Module) -> tuple[float, str] | None:
    if isinstance(module, nn.Dropout):
        return module.p, "element"
    if isinstance(module, nn.Dropout2d):
        return module.p, "channel"
    if (
        type(module).__name__ == "StochasticDepth" and getattr(module, "mode", "") == "row"
    ):  # ours or torchvision's, not imported
        return float(module.p), "row"  # type: ignore[arg-type]
    return None
