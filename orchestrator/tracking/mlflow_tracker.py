"""The tracker that tells MLflow: every call appends to the journal and returns, a background thread does the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.delivery import Delivery, Sink
from orchestrator.tracking.journal import Event, Journal, read_events
from orchestrator.tracking.naming import split_finite

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker

log = logging.getLogger(__name__)
CLOSE_S = 120.0
"""How long `close` waits for an MLflow that answers but is slow; one that does not answer is left at once."""


class MlflowTracker:
    """Implements Tracker over a journal and its delivery; remembers over restarts what it has been told."""

    def __init__(
        self, workspace: Workspace, journal: Journal, sink: Sink, *, name: str, close_timeout: float = CLOSE_S
    ) -> None:
        self._workspace, self._journal, self._sink, self._name = workspace, journal, sink, name
        self._close_timeout = close_timeout
        self._epochs: dict[str, int] = {}
        """Told epochs of each trial, as the bits of a number."""
        self._running: set[str] = set()
        self._ended: dict[str, dict[str, Any]] = {}
        for event in read_events(journal.path):
            self._remember(event)
        self._delivery: Delivery | None = Delivery(journal, sink, name=name)
        """None after `close`, until the next call."""

    @property
    def waiting(self) -> int:
        """Return how many events have not reached MLflow."""
        return self._journal.waiting

    def search_started(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open (or find again) the parent run, and end the trials that were done when an earlier driver died."""
        note = {"mlflow.note.content": _note(self._workspace.root)}
        self._tell("search_started", {"params": dict(params), "tags": note | dict(tags)})
        self._settle(interrupt=False)

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open (or find again) a trial's run."""
        self._tell("trial_started", {"trial_id": trial_id, "params": dict(params), "tags": dict(tags)})

    def trial_epoch(self, trial_id: str, metrics: Mapping[str, float], epoch: int) -> None:
        """Log one epoch's metrics once; what is not finite is dropped and named in a tag."""
        if not self._epochs.get(trial_id, 0) >> epoch & 1:
            kept, dropped = split_finite(metrics)
            self._tell("trial_epoch", {"trial_id": trial_id, "epoch": epoch, "metrics": kept, "dropped": dropped})

    def trial_ended(self, record: MemberRecord, figures: Sequence[Path] = ()) -> None:
        """Close a trial's run; telling the same record again changes nothing."""
        values = record.to_dict()
        if figures or self._ended.get(record.trial_id) != values:
            self._tell("trial_ended", {"record": values, "figures": _absolute(figures)})

    def stage(
        self, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Log a stage as one run; a rerun updates it."""
        data = {"name": name, "params": dict(params), "metrics": dict(metrics), "tags": dict(tags or {})}
        self._tell("stage", data | {"artifacts": _absolute(artifacts)})

    def search_ended(self, status: str, metrics: Mapping[str, float], figures: Sequence[Path] = ()) -> None:
        """Close the parent run, and every trial that nobody has ended."""
        self._settle(interrupt=True)
        self._tell("search_ended", {"status": status, "metrics": split_finite(metrics)[0], "figures": _absolute(figures)})

    def close(self) -> None:
        """Flush within the time bound; what remains stays in the journal and is said. A later call opens the tracker again."""
        if self._delivery is None:
            return
        left = self._delivery.close(self._close_timeout)
        self._delivery = None
        self._journal.close()
        if left:
            log.warning("%d events have not reached MLflow; they wait in %s and go at the next start", left, self._journal.path)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        """Append to the journal; a full disk costs the scores of this call, not the search."""
        if self._delivery is None:
            self._delivery = Delivery(self._journal, self._sink, name=self._name)
        try:
            seq = self._journal.append(kind, data)
        except (OSError, ValueError) as error:
            log.warning("the tracking journal could not be written: %s", error)
            return
        self._remember(Event(seq, 0, kind, data))

    def _remember(self, event: Event) -> None:
        if event.kind == "trial_epoch":
            trial_id = event.data["trial_id"]
            self._epochs[trial_id] = self._epochs.get(trial_id, 0) | 1 << event.data["epoch"]
        elif event.kind == "trial_started":
            self._running.add(event.data["trial_id"])
            self._ended.pop(event.data["trial_id"], None)
        elif event.kind == "trial_ended":
            record = event.data["record"]
            self._ended[record["trial_id"]] = record
            if record["status"] != "running":
                self._running.discard(record["trial_id"])

    def _settle(self, *, interrupt: bool) -> None:
        """End the trials told as started and never as ended: as their record says, or as interrupted where it does not."""
        for trial_id in sorted(self._running):
            try:
                record = self._workspace.load_record(trial_id)
            except (FileNotFoundError, ValueError):
                record = MemberRecord(trial_id, "trial", "", {}, 0, "", "", "running")
            if record.status != "running":
                self.trial_ended(record)
            elif interrupt:
                self.trial_ended(record.replace(status="interrupted", stop_reason="the driver ended"))


def _absolute(paths: Sequence[Path]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _note(root: Path) -> str:
    return (
        f"Hyperparameter search of the run folder `{root}`.\n\n"
        "The nested runs are its trials: `val/...` and `train/...` are curves by epoch, `best/...` the scores of the best kept "
        "epoch. Stages (baseline, ensemble, export, ...) are runs of their own with the same `search_id`."
    )


if TYPE_CHECKING:

    def _check(tracker: MlflowTracker) -> Tracker:
        return tracker
