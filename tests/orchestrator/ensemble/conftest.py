"""Synthetic pools of classifiers: shared difficulty plus each member's own noise, skill and temperature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Pool = tuple[NDArray[np.float32], NDArray[np.int64]]
MakePool = Callable[..., Pool]


def _make_pool(
    members: int, rows: int, classes: int, *, seed: int, shared: float = 1.0, own: float = 1.6, spread: float = 0.35
) -> Pool:
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, classes, rows)
    difficulty_NC = shared * rng.normal(size=(rows, classes))
    probs_MNC = np.empty((members, rows, classes), dtype=np.float32)
    for m in range(members):
        logits_NC = difficulty_NC + own * rng.normal(size=(rows, classes))
        logits_NC[np.arange(rows), labels_N] += rng.uniform(2.0, 3.5)
        logits_NC *= np.exp(rng.normal(0.4, spread))
        powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        probs_MNC[m] = powers_NC / powers_NC.sum(axis=1, keepdims=True)
    return probs_MNC, labels_N


@pytest.fixture
def make_pool() -> MakePool:
    """make_pool(members, rows, classes, seed=...) -> probabilities [M, N, C] and labels [N]."""
    return _make_pool
