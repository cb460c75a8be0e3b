"""Counter-based random numbers: a hash of (seed, stream, epoch, index), so that no draw depends on batching or restart.

splitmix64's finaliser (Steele, Lea and Flood 2014) over mixed-in words, in int64 tensor arithmetic (wraps modulo 2**64), gives
the same bits on every device, for any number of packed trials, in any order of evaluation.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_MASKS = {27: (1 << 37) - 1, 30: (1 << 34) - 1, 31: (1 << 33) - 1, 11: (1 << 53) - 1}

STREAMS = {
    "order": 1, "augment": 2, "mix": 3, "dropout": 4, "init": 5, "rows": 6, "sampler": 7, "view": 8,
}  # fmt: skip
"""Named streams, so that two uses of one seed never share numbers."""

KEPT = 1 << 17
"""Counters that are kept for the next draws, at most (1 MB)."""


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical (unsigned) right shift of int64."""
    return (x >> bits).bitwise_and_(_MASKS[bits])


def _finalise(x: Tensor) -> Tensor:
    """Mix x, which nobody else holds, in its own memory: a new tensor for each of the operations costs more than the work."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shift(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift(x, 31))


def key(seed: int | Tensor, stream: str, *words: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Mix a seed (or one seed a slot), a named stream and further words (epoch, step, layer) into one int64 key tensor."""
    mixed = _finalise(torch.as_tensor(seed, dtype=torch.int64, device=device) + _GOLDEN)
    return extended(mixed, STREAMS[stream], *words)


def extended(keys: Tensor, *words: int | Tensor) -> Tensor:
    """Mix further words into a key: `extended(key(seed, stream, a), b)` is `key(seed, stream, a, b)`."""
    for word in words:
        if isinstance(word, Tensor):
            keys = _finalise(keys + word.to(keys.device, torch.int64) * _GOLDEN + _GOLDEN)
        else:  # folded here: one operation, and no copy to the device
            keys = _finalise(keys + _signed(int(word) * _GOLDEN + _GOLDEN))
    return keys


def _signed(number: int) -> int:
    """Return an integer modulo 2**64 as a signed 64-bit one."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def uniform(keys: Tensor, index: Tensor, draws: int = 1) -> Tensor:
    """Return float64 uniforms in [0, 1) of shape broadcast(keys, index) + [draws]; each depends on its key and index alone."""
    base = _finalise(torch.add(keys + _GOLDEN, index.to(torch.int64), alpha=_GOLDEN))
    lanes = torch.arange(1, draws + 1, dtype=torch.int64, device=base.device)
    bits = _finalise(torch.add(base.unsqueeze(-1), lanes, alpha=_GOLDEN))
    return _shift(bits, 11).to(torch.float64).mul_(1.0 / (1 << 53))


def int32_draws(keys: Tensor, pairs: int) -> Tensor:
    """Return int32 [*keys.shape, 2 * pairs], uniform over all its values: a key's splitmix64 sequence, numbers cut in two."""
    few = keys.device.type == "cpu" and pairs <= KEPT
    counters = _counters(pairs) if few else torch.arange(1, pairs + 1, device=keys.device)
    return _finalise(torch.add(keys.unsqueeze(-1), counters, alpha=_GOLDEN)).view(torch.int32)


@functools.lru_cache(maxsize=16)
def _counters(count: int) -> Tensor:
    """Return 1 to count on the CPU, which every step needs again; what a recorded graph makes on a GPU is its own."""
    return torch.arange(1, count + 1)


def permutation(seed: int, stream: str, epoch: int, n: int) -> Tensor:
    """Return a permutation of range(n) that depends on (seed, stream, epoch) alone: the sample order of one epoch."""
    index = torch.arange(n)
    return torch.argsort(uniform(key(seed, stream, epoch), index).squeeze(-1), stable=True)
