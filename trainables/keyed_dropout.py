"""Dropout whose masks come from counters, for one model or K packed ones: no draw depends on other slots or on a restart.

torch's own dropout takes its mask from one global stream, so a resumed run or a packed trial would see other masks than a solo
run. Here the mask of (seed, step, layer, element) is a hash of just those (`trainables.randomness`), the same in both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainables.randomness import key, uniform

KINDS = ("element", "channel", "row")
"""What one draw decides: one activation (Dropout), one map of a sample (Dropout2d), a sample's branch (stochastic depth)."""


KEPT = 1 << 18
"""Numbers of a layer's draws that are kept for its next step, at most (2 MB)."""


@functools.lru_cache(maxsize=16)
def _numbers(count: int) -> Tensor:
    """Return 0 to count - 1 on the CPU, which every step needs again; what a recorded graph makes on a GPU is its own."""
    return torch.arange(count)


def _draws(keys: Tensor, count: int) -> Tensor:
    """Return float64 uniforms [K, count] of each of K keys."""
    few = keys.device.type == "cpu" and count <= KEPT
    numbers = _numbers(count) if few else torch.arange(count, device=keys.device)
    return uniform(keys.unsqueeze(1), numbers).squeeze(-1)


_opaque_draws = torch.library.custom_op("trainables::draws", _draws, mutates_args=())
"""The same as torch's compiler sees it: one operation, left alone. The code it makes of the hash of a counter is wrong where
the count is not fixed (torch 2.13, CPU: it multiplies the counter as an index, and 2 or 40 % were dropped for 30)."""
_opaque_draws.register_fake(lambda keys, count: keys.new_empty(len(keys), count, dtype=torch.float64))


class KeyedDropout(nn.Module):
    """Inverted dropout over [N, K*C, ...] with one probability and one key a slot; K = 1 is an ordinary model."""

    p: Tensor
    keys: Tensor

    def __init__(self, p: Tensor, *, layer: int, kind: str) -> None:
        """Take p as float64 [K]; `layer` tells this layer's draws from the other layers'."""
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r}, allowed: {', '.join(KINDS)}")
        self.layer, self.kind = layer, kind
        self.register_buffer("p", p.to(torch.float64), persistent=False)
        self.register_buffer("keys", torch.zeros(len(p), dtype=torch.int64), persistent=False)
        self.off = not bool((p > 0).any())

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training mode, pass in evaluation mode."""
        if not self.training or self.off:
            return x
        slots = len(self.p)
        spread = torch.unflatten(x, 1, (slots, -1))
        shape = {"element": spread.shape[2:], "channel": spread.shape[2:3], "row": spread.shape[2:2]}[self.kind]
        count = x.shape[0] * shape.numel()
        draws = (_opaque_draws if torch.compiler.is_compiling() else _draws)(self.keys, count)
        kept = (draws >= self.p.unsqueeze(1)).to(x.dtype) / (1 - self.p).unsqueeze(1).to(x.dtype)
        mask = kept.view(slots, x.shape[0], *shape).transpose(0, 1)
        mask = mask.reshape(*mask.shape, *[1] * (spread.dim() - mask.dim()))
        return (spread * mask).flatten(1, 2)

    def set_p(self, slot: int, p: float) -> None:
        """Change one slot's probability."""
        self.p[slot] = p
        self.off = not bool((self.p > 0).any())

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


class StepKeys:
    """The keys of a model's keyed dropouts at each of the next steps, hashed at once: far cheaper than step by step."""

    def __init__(self, model: nn.Module, seeds: int | Tensor, *, first: int | Tensor, count: int) -> None:
        """Take one seed and first step for all slots, or one of each a slot [K]; `count` steps follow one another."""
        self._layers = [(module._buffers, _keys(module, seeds, first, count).unbind()) for module in keyed_layers(model)]

    def set(self, number: int) -> None:
        """Give every layer its keys of the step so many after the first."""
        for buffers, keys in self._layers:
            buffers["keys"] = keys[number]


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
