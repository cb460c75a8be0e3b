"""The prediction bank: every member's best-epoch probabilities, float16 on disk and float32 in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.store.workspace import Workspace, write_atomic

Floats = NDArray[np.float32]


class PredictionBank:
    """Probabilities [N, C] a member and split (regression: float32 values [N, 1]), beside their targets."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def put_targets(self, split: str, targets: NDArray[np.generic], ids: Sequence[str], fingerprint: str) -> None:
        """Write a split's targets once; raises ValueError if this run folder already holds others."""
        path = self.workspace.targets(split)
        if path.exists():
            if self.fingerprint(split) != fingerprint:
                raise ValueError(
                    f"{path}: this run folder holds data {self.fingerprint(split)}, the experiment's data is {fingerprint}; "
                    "use another `name`, or the data it was started with"
                )
            return
        buffer = io.BytesIO()
        np.savez_compressed(buffer, targets=targets, ids=np.asarray(ids, dtype=np.str_), fingerprint=np.asarray(fingerprint))
        write_atomic(path, buffer.getvalue())

    def fingerprint(self, split: str) -> str:
        """Return the data fingerprint that a split's targets were written with."""
        with np.load(self.workspace.targets(split), allow_pickle=False) as stored:
            return str(stored["fingerprint"])

    def targets(self, split: str) -> NDArray[np.generic]:
        """Return a split's targets [N]: int64 classes or float64 values."""
        with np.load(self.workspace.targets(split), allow_pickle=False) as stored:
            found: NDArray[np.generic] = stored["targets"]
            return found

    def ids(self, split: str) -> tuple[str, ...]:
        """Return a split's row ids."""
        with np.load(self.workspace.targets(split), allow_pickle=False) as stored:
            return tuple(str(i) for i in stored["ids"])

    def put(self, trial_id: str, split: str, probabilities: Floats) -> None:
        """Write a member's probabilities; raises ValueError when they are not finite or not [N, C]."""
        if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
            raise ValueError(f"predictions of {trial_id}/{split}: expected finite [N, C], got shape {probabilities.shape}")
        stored = probabilities.astype(np.float16 if probabilities.shape[1] > 1 else np.float32)
        buffer = io.BytesIO()
        np.save(buffer, stored, allow_pickle=False)
        write_atomic(self.workspace.predictions(trial_id, split), buffer.getvalue())

    def forget(self, trial_id: str) -> None:
        """Drop a member's probabilities of every split: those of weights that are about to be replaced."""
        for split in ("train", "val", "test"):
            self.workspace.predictions(trial_id, split).unlink(missing_ok=True)

    def has(self, trial_id: str, split: str) -> bool:
        """Return whether a member's probabilities of a split are there."""
        return self.workspace.predictions(trial_id, split).exists()

    def get(self, trial_id: str, split: str) -> Floats:
        """Return a member's probabilities as float32 [N, C], rows summing to one again after the float16 round trip."""
        stored: Floats = np.load(self.workspace.predictions(trial_id, split), allow_pickle=False).astype(np.float32)
        if stored.shape[1] == 1:
            return stored
        found: Floats = stored / stored.sum(axis=1, keepdims=True)
        return found

    def stack(self, trial_ids: Sequence[str], split: str) -> Floats:
        """Return [M, N, C]; raises ValueError naming a member whose rows or classes differ from the first one's."""
        arrays = [self.get(trial_id, split) for trial_id in trial_ids]
        for trial_id, array in zip(trial_ids, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise ValueError(f"member {trial_id}: predictions {array.shape}, others {arrays[0].shape}; another data set?")
        return np.stack(arrays)
