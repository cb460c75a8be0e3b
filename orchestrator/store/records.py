"""The nouns that travel between stages: what to train (TrialSpec) and what came of it (MemberRecord)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT_VERSION = 1
KINDS = ("baseline", "light", "trial", "refit", "bag", "boost", "soup", "snapshot", "external", "control", "student")
STATUSES = ("running", "finished", "stopped", "failed", "interrupted")
"""running: a worker has it; finished: all epochs or patience; stopped: by the scheduler; failed: with `error`."""

LOWER_IS_BETTER = frozenset({"log_loss", "loss", "brier", "ece", "rmse", "mae"})


def mode_of(metric: str) -> str:
    """Return "min" or "max" for a metric's bare name ("accuracy", "log_loss", ...)."""
    return "min" if metric in LOWER_IS_BETTER else "max"


@dataclass(frozen=True)
class TrialSpec:
    """One training run to be done: who it is and with which flat TrainConfig values. Small enough to send anywhere."""

    trial_id: str
    config: Mapping[str, Any]
    kind: str = "trial"
    trainable: str = "image"
    parent: str = ""
    """Trial id of which this is a refit, bag, boosting stage or snapshot."""
    waits: tuple[int, ...] = ()
    """Epochs after which it may be told to wait: its training state is on the disk before it tells of them."""


@dataclass(frozen=True)
class MemberRecord:
    """What came of one training run: `record.json` of its member folder."""

    trial_id: str
    kind: str
    trainable: str
    config: dict[str, Any]
    seed: int
    config_hash: str
    data_fingerprint: str
    status: str
    stop_reason: str = ""
    error: str = ""
    epochs_run: int = 0
    best_epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """All metrics of the best epoch: "val/accuracy", "train/loss", ..."""
    seconds: float = 0.0
    device: str = ""
    peak_memory_mb: float = 0.0
    parent: str = ""
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.status not in STATUSES:
            raise ValueError(f"record {self.trial_id}: kind {self.kind!r} / status {self.status!r} is not known")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready mapping."""
        return {**vars(self), "config": dict(self.config), "metrics": dict(self.metrics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MemberRecord:
        """Read a record back; raises ValueError for a newer format version."""
        if values.get("version", 0) > FORMAT_VERSION:
            raise ValueError(f"record of format {values['version']}: this program reads up to {FORMAT_VERSION}; upgrade it")
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def replace(self, **changes: Any) -> MemberRecord:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def usable(self) -> bool:
        """Return whether a best epoch exists, so that its predictions may join an ensemble."""
        return self.best_epoch > 0 and self.status in ("finished", "stopped", "interrupted")

    def score(self, metric: str) -> float:
        """Return the best epoch's validation score; NaN where there is none."""
        return float(self.metrics.get(f"val/{metric}", float("nan")))


def ranked(records: list[MemberRecord], metric: str) -> list[MemberRecord]:
    """Return the usable records, best kept epoch first; of equal ones the lower log-loss, then the earlier trial.

    On few images several trials reach the same accuracy, whose probabilities are of very different worth.
    """
    sign = 1.0 if mode_of(metric) == "min" else -1.0
    scored = [r for r in records if r.usable and r.score(metric) == r.score(metric)]
    return sorted(scored, key=lambda r: (sign * r.score(metric), r.metrics.get("val/log_loss", math.inf), r.trial_id))
