"""The learning-rate range test (Smith 2017): raise the rate each batch, watch the loss, suggest where it falls fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LrCurve:
    """Rates tried, the loss at each, the smoothed loss, and the suggestion (None where the loss never fell)."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None


def lr_range_test(
    step: Callable[[float], float],
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.8,
    divergence: float = 4.0,
) -> LrCurve:
    """Run the test over a training step and return its curve.

    Args:
        step: Trains on the next batch at the rate given and returns the loss before the update.
        low, high: Range of rates, walked geometrically.
        steps: Number of rates.
        smoothing: Weight of the past in the (bias-corrected) moving average of the loss, 0 to below 1.
        divergence: The test ends when the smoothed loss exceeds this many times the lowest one, or is not finite.

    Raises:
        ValueError: A range that is empty, fewer than 3 steps, or a loss that is not finite at the very start.
    """
    if not 0 < low < high or steps < 3:
        raise ValueError(f"lr_find: got low={low}, high={high}, steps={steps}; allowed: 0 < low < high and at least 3 steps")
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    for i in range(steps):
        rate = low * (high / low) ** (i / (steps - 1))
        loss = step(rate)
        if not math.isfinite(loss):
            break
        average = smoothing * average + (1 - smoothing) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(average / (1 - smoothing ** (i + 1)))
        if smoothed[-1] > divergence * min(smoothed):
            break
    if not rates:
        raise ValueError(f"lr_find: the loss is not finite at the first rate, {low}; look at the data and the loss first")
    return LrCurve(tuple(rates), tuple(losses), tuple(smoothed), steepest(rates, smoothed))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest against log(rate), looking only up to the lowest loss; None if never."""
    end = int(np.argmin(losses)) + 1
    if end < 2:
        return None
    slope = np.gradient(np.asarray(losses), np.log(np.asarray(rates)))[:end]
    return float(rates[int(np.argmin(slope))]) if slope.min() < 0 else None
