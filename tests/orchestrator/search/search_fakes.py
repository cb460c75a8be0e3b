"""Stand-ins: a trainable that is plain arithmetic, a tracker that writes down what it is told, a driver that is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.config import Experiment
from orchestrator.search.board import Board
from orchestrator.search.ledger import read_events
from orchestrator.search.progress import Silent
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from trainables.config import TrainConfig
from trainables.contract import NonFiniteLoss, Outcome
from trainables.data import Splits

MakeExperiment = Callable[..., Experiment]
SPACE = {"name": "tiny", "constants": {"epochs": 4}, "dimensions": {"lr": {"float": [1e-3, 1.0], "log": True}}}


class FakeTrainable:
    """Scores lr * epoch / 10 by plain arithmetic; some learning rates have their own fate (see `FATES`)."""

    FATES: dict[str, Callable[[int], None]] = {}

    def __init__(self, config: TrainConfig, splits: Splits) -> None:
        self.config, self.splits, self.epoch = config, splits, 0
        self.device = "cpu"

    def step(self) -> Outcome:
        self.epoch += 1
        for fate in self.FATES.values():
            fate(self.epoch)
        score = min(1.0, self.config.lr * self.epoch / 10)
        metrics = {"val/accuracy": score, "val/log_loss": 1 - score, "lr": self.config.lr}
        done = self.epoch >= self.config.epochs
        return Outcome(self.epoch, metrics, done, "budget" if done else "")

    def predict(self, split: str) -> NDArray[np.float32]:
        rows = len(self.splits.part(split))
        found = np.full((rows, len(self.splits.classes)), 0.05, dtype=np.float32)
        found[:, self.epoch % 10] = 0.55
        return found

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = int(state["epoch"])

    def weights(self) -> dict[str, Any]:
        return {"epoch": torch.tensor([float(self.epoch)])}


def fate_times(error: Exception, at: int, times: int) -> Callable[[int], None]:
    left = [times]

    def fate(epoch: int) -> None:
        if epoch == at and left[0]:
            left[0] -= 1
            raise error

    return fate


def fate_nan(at: int) -> Callable[[int], None]:
    def fate(epoch: int) -> None:
        if epoch == at:
            raise NonFiniteLoss("the loss became nan")

    return fate


class Telling:
    """A tracker that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def search_started(self, params: Any, tags: Any) -> None:
        self.calls.append(("search_started", dict(params), dict(tags)))

    def trial_started(self, trial_id: str, params: Any, tags: Any) -> None:
        self.calls.append(("trial_started", trial_id, dict(params), dict(tags)))

    def trial_epoch(self, trial_id: str, metrics: Any, epoch: int) -> None:
        self.calls.append(("trial_epoch", trial_id, dict(metrics), epoch))

    def trial_ended(self, record: Any, figures: Any = ()) -> None:
        self.calls.append(("trial_ended", record.trial_id, record.status, list(figures)))

    def stage(self, name: str, **_: Any) -> None:
        self.calls.append(("stage", name))

    def search_ended(self, status: str, metrics: Any, figures: Any = ()) -> None:  # noqa: ARG002
        self.calls.append(("search_ended", status, dict(metrics)))

    def close(self) -> None:
        self.calls.append(("close",))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == kind]


class Killed(BaseException):
    """As good as a kill: nobody catches it."""


class KillAt(Silent):
    """Kills the driver at the n-th thing it shows."""

    def __init__(self, at: int) -> None:
        self.at = at

    def show(self, board: Board, event: str = "") -> None:  # noqa: ARG002
        self.at -= 1
        if self.at == 0:
            raise Killed


class Heard(Silent):
    """Keeps the sentences that it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def show(self, board: Board, event: str = "") -> None:  # noqa: ARG002
        self.events.append(event)


def essence(records: list[MemberRecord]) -> list[Any]:
    return [(r.trial_id, r.config, r.status, r.stop_reason, r.epochs_run, r.best_epoch, r.metrics) for r in records]


def epochs_in(workspace: Workspace) -> Counter[tuple[str, int]]:
    return Counter((e["trial_id"], e["epoch"]) for e in read_events(workspace.ledger) if e["event"] == "epoch")
