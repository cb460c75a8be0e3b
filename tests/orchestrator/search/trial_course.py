"""A short trial of a real network that can be cut off, for the tests of what it does and of what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.search.trial import run_trial
from orchestrator.store.records import MemberRecord, TrialSpec
from trainables.contract import Outcome
from trainables.data import DataConfig

DATA = DataConfig(limit=200)
CONFIG = {
    "model": "cnn_a", "width": 4, "epochs": 3, "lr": 0.02, "batch_size": 32, "augmentation": "none", "device": "cpu", "seed": 3,
}  # fmt: skip


class Cut(BaseException):
    """The worker dies."""


def train(
    root: Path, *, until: int = 99, config: dict[str, Any] | None = None, waits: tuple[int, ...] = (),
    end: type[BaseException] = Cut,
) -> tuple[MemberRecord, list[int]]:  # fmt: skip
    """Run (or go on with) trial "a"; it dies while reporting epoch `until`."""
    heard: list[int] = []

    def report(outcome: Outcome) -> bool:
        heard.append(outcome.epoch)
        if outcome.epoch == until:
            raise end
        return True

    spec = TrialSpec("a", {**CONFIG, **(config or {})}, waits=waits)
    return run_trial(spec, data=DATA, root=str(root), metric="accuracy", report=report), heard
