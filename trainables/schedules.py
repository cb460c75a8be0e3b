"""Learning-rate schedules as pure functions of the step: the factor on `config.lr`, whatever ran before.

Every schedule may start with a linear warm-up of whole epochs; its own shape fills the rest of the run. Constant, step,
multi-step, exponential and plateau move once an epoch, the others with each batch. `config.lr` is always the peak rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from trainables.config import TrainConfig


def multiplier(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the factor on `config.lr` for the optimiser's step number `step` (0-based).

    `plateau` answers to the validation loss, not to the step: here it gives 1 after the warm-up, times `Plateau.factor`.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup
    total = max(1, (config.epochs - config.warmup_epochs) * steps_per_epoch)
    return _SHAPES[config.schedule](config, step - warmup, total, steps_per_epoch)


class Plateau:
    """The state of reduce-on-plateau: `factor` falls by gamma when the loss has not improved for more than the patience."""

    def __init__(self, config: TrainConfig, *, threshold: float = 1e-4) -> None:
        self._config, self._threshold = config, threshold
        self.factor, self.best, self.bad_epochs = 1.0, math.inf, 0

    def update(self, loss: float) -> float:
        """Take the validation loss of one epoch (relative threshold) and return the factor from now on."""
        if loss < self.best * (1 - self._threshold):
            self.best, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self._config.plateau_patience:
            self.factor = max(self.factor * self._config.gamma, self._config.min_lr_ratio)
            self.bad_epochs = 0
        return self.factor

    def state(self) -> dict[str, float]:
        """Return what `load_state` needs to go on."""
        return {"factor": self.factor, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.factor, self.best, self.bad_epochs = float(state["factor"]), float(state["best"]), int(state["bad_epochs"])


def _constant(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    del config, step, total, per_epoch
    return 1.0


def _spacing(config: TrainConfig) -> float:
    return config.step_epochs or config.epochs / 2


def _step(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    del total
    return _floored(config, config.gamma ** int(step // per_epoch / _spacing(config)))


def _multistep(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    """Two drops, the second half as far from the first as the first from the start (1/2 and 3/4 of a run twice as long)."""
    del total
    epoch, first = step // per_epoch, _spacing(config)
    return _floored(config, config.gamma ** ((epoch >= first) + (epoch >= int(1.5 * first))))


def _exponential(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    del total
    return _floored(config, config.gamma ** (step // per_epoch))


def _floored(config: TrainConfig, value: float) -> float:
    return max(value, config.min_lr_ratio)


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _cosine(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    del per_epoch
    return _cosine_between(1.0, config.min_lr_ratio, min(1.0, step / total))


def _cosine_restarts(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    """Each cycle is `cycle_mult` times as long as the last (Loshchilov and Hutter 2017)."""
    del total
    length = config.cycle_epochs * per_epoch
    while step >= length:
        step -= length
        length *= config.cycle_mult
    return _cosine_between(1.0, config.min_lr_ratio, step / length)


def _onecycle(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    """Cosine up over `pct_start` of the run, cosine down to `min_lr_ratio` over the rest (Smith and Topin 2018)."""
    del per_epoch
    start, peak, end = 1 / config.max_lr_ratio, config.pct_start * total - 1, total - 1
    if step <= peak:
        return _cosine_between(start, 1.0, step / peak)
    return _cosine_between(1.0, config.min_lr_ratio, min(1.0, (step - peak) / max(1e-9, end - peak)))


def _cyclic(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    """Triangles of `cycle_epochs` between 1 / `max_lr_ratio` and 1 (Smith 2017)."""
    del total
    half = config.cycle_epochs * per_epoch / 2
    height = 1 - abs((step / half) % 2 - 1)
    return 1 / config.max_lr_ratio + (1 - 1 / config.max_lr_ratio) * height


def _linear(config: TrainConfig, step: int, total: int, per_epoch: int) -> float:
    del per_epoch
    return 1 + (config.min_lr_ratio - 1) * min(1.0, step / total)


_SHAPES: dict[str, Callable[[TrainConfig, int, int, int], float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "onecycle": _onecycle,
    "cyclic": _cyclic,
    "exponential": _exponential,
    "plateau": _constant,
    "linear": _linear,
}
"""schedule -> factor(config, step after warm-up, steps after warm-up, steps an epoch)."""
