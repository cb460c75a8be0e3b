"""The Trainable of a slot: an ImageModel whose epochs are trained together with those of the process's other trials."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrainConfig
from trainables.contract import Outcome
from trainables.data.dataset import Splits
from trainables.image_model import ImageModel
from trainables.slots.backend import choose_pool
from trainables.slots.pool import DEVICE, Left, Pool, pool_key

_LOG = logging.getLogger(__name__)
_POOLS: dict[tuple[Any, ...], tuple[Pool, str]] = {}
_KNOWN = threading.Lock()
"""Held while the table of pools is read or changed."""


def pool_of(model: ImageModel) -> Pool:
    """Return the process's pool for a model's key, made when it is first asked for."""
    key = pool_key(model)
    with DEVICE:
        if key not in _POOLS:
            made = choose_pool(model)
            _LOG.info("pool %s: %s", model.config.model, made[1])
            with _KNOWN:
                _POOLS[key] = made
        return _POOLS[key][0]


def pools() -> list[dict[str, Any]]:
    """Return, for each of the process's pools, its model's name, why it trains as it does, and what it has trained."""
    with _KNOWN:
        return [
            {
                "model": key[1],
                "reason": reason,
                "ticks": pool.ticks,
                "slot_epochs": pool.slot_epochs,
                "seconds": pool.seconds,
            }
            for key, (pool, reason) in _POOLS.items()
        ]


class SlotModel:
    """One trial of a pool (see `trainables.contract.Trainable`); it joins with its first step and leaves on `close`."""

    def __init__(self, config: TrainConfig, splits: Splits) -> None:
        """Build the model as it would be alone, only that `compile: auto` is off: compiled, it could not join the others."""
        packable = config.replace(compile="off") if config.compile == "auto" else config
        with DEVICE:
            self.model = ImageModel(packable, splits)
        self.config, self.device = self.model.config.replace(compile=config.compile), self.model.device
        self.pipeline = self.model.pipeline
        self._pool: Pool | None = None
        self._closed, self._joining = False, threading.Lock()

    def step(self) -> Outcome:
        """Train one epoch with the pool's other members; raises NonFiniteLoss for this slot alone."""
        if self._pool is None:
            pool = pool_of(self.model)
            with self._joining:
                if self._closed:
                    raise Left
                pool.join(self.model)
                self._pool = pool
        return self._pool.step(self.model)

    def close(self) -> None:
        """Leave the pool (a trial that is stopped or over), so that the others do not wait.

        From another thread: the model's own gets `Left` where it waits for the others, or when it asks for its next epoch.
        """
        with self._joining:
            if self._pool is not None and not self._closed:
                self._pool.leave(self.model)
            self._closed = True

    def predict(self, split: str) -> NDArray[np.float32]:
        """Return probabilities of a split in dataset order."""
        return self.model.predict(split)

    def state(self) -> dict[str, Any]:
        """Return the state an ImageModel of the same config would have."""
        return self.model.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; only before the first step."""
        if self._pool is not None:
            raise RuntimeError("load_state: this slot is in training; build a new one")
        self.model.load_state(state)

    def weights(self) -> dict[str, Any]:
        """Return the inference weights."""
        return self.model.weights()
