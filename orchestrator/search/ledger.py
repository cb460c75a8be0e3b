"""The append-only truth of a search: one JSON object a line, on the disk before anybody acts on it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.store.records import TrialSpec

Event = dict[str, Any]
"""A mapping with its fields and "event": identity, opened, created, started, epoch, ended, retried, exploited, released, slots,
interrupted, closed."""


def read_events(path: Path) -> list[Event]:
    """Return all events in order; a half-written last line is left out, any other broken line raises ValueError."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # what follows the last newline was never finished
    return [_parse(path, number, line) for number, line in enumerate(whole, start=1) if line.strip()]


def _parse(path: Path, number: int, line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}:{number}: not a ledger line ({error}); restore the file from a copy, or start another run"
        ) from error
    return event


class Ledger:
    """The writer: each `append` is one write and one fsync, whole or (after a crash) cut off by the next opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_tail(path)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._guard = threading.Lock()

    def append(self, event: str, trial_id: str = "", **fields: Any) -> Event:
        """Write one event and wait until it is on the disk; raises OSError (disk full, storage gone) if it cannot be."""
        entry: Event = {"event": event, **({"trial_id": trial_id} if trial_id else {}), **fields}
        line = (json.dumps(entry, sort_keys=True) + "\n").encode()
        with self._guard:
            written = os.write(self._handle, line)
            if written < len(line):
                raise OSError(f"{self.path}: only {written} of {len(line)} bytes written; is the disk full?")
            os.fsync(self._handle)
        return entry

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def _cut_torn_tail(path: Path) -> None:
    """Drop what a killed writer left after the last newline, so that the next line starts on its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    keep = content.rfind(b"\n") + 1
    if keep < len(content):
        with path.open("r+b") as file:
            file.truncate(keep)
            file.flush()
            os.fsync(file.fileno())


@dataclass
class TrialLog:
    """What the ledger says of one trial."""

    spec: TrialSpec
    first: TrialSpec
    """The spec it was created with; population training changes numbers of `spec` later."""
    drawn: dict[str, Any]
    """What the space gave (constants and dimensions): enough to tell a searcher of it again."""
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    status: str = ""
    """"" while unfinished, else how it ended."""
    reason: str = ""
    retries: int = 0
    told: float | None = None
    """What the searcher was told of it, where that is not its own best score."""

    @property
    def barren(self) -> bool:
        """Return whether it failed or was interrupted before its first epoch: making it anew costs and changes nothing."""
        return self.status in ("", "failed") and not self.epochs


def trial_logs(events: Iterable[Event]) -> dict[str, TrialLog]:
    """Return what is known of every trial, in order of creation."""
    logs: dict[str, TrialLog] = {}
    for event in events:
        apply(logs, event)
    return logs


def apply(logs: dict[str, TrialLog], event: Event) -> None:
    """Let one event change the logs; the same epoch told twice counts once, what came to no epoch may be created again."""
    kind, log = event["event"], logs.get(event.get("trial_id", ""))
    if kind == "created":
        spec = spec_from(event["spec"])
        if log is None or log.barren:
            logs[spec.trial_id] = TrialLog(spec, spec, event.get("drawn", {}))
    elif log is None:
        return
    elif kind == "epoch":
        log.epochs.setdefault(event["epoch"], event["metrics"])
    elif kind == "ended":
        log.status, log.reason, log.told = event["status"], event.get("reason", ""), event.get("told")
    elif kind == "retried":
        log.retries += 1
    elif kind == "exploited":
        log.spec = spec_from(event["spec"])


@dataclass(frozen=True)
class Standing:
    """How far the search of a ledger has come."""

    trials: int
    unfinished: int
    total: int
    """How many trials it was opened for at last."""
    complete: bool
    """Whether it reached its total, or said that there was nothing left to propose."""


def standing_of(events: Sequence[Event]) -> Standing:
    """Return how far the search of a ledger has come; baselines, refits and bags are no part of it."""
    logs = [log for log in trial_logs(events).values() if log.spec.kind == "trial"]
    unfinished = sum(not log.status for log in logs)
    opened = [number for number, event in enumerate(events) if event["event"] == "opened" and "total" in event]
    if not opened:
        return Standing(len(logs), unfinished, 0, complete=False)
    total = max(int(events[number]["total"]) for number in opened)
    closed = any(event["event"] == "closed" for event in events[opened[-1] :])
    return Standing(len(logs), unfinished, total, complete=not unfinished and (len(logs) >= total or closed))


def spec_to(spec: TrialSpec) -> dict[str, Any]:
    """Return the JSON-ready form of a spec."""
    found = {key: getattr(spec, key) for key in ("trial_id", "kind", "trainable", "parent")}
    return {**found, "config": dict(spec.config), **({"waits": list(spec.waits)} if spec.waits else {})}


def spec_from(values: Mapping[str, Any]) -> TrialSpec:
    """Read back what `spec_to` wrote."""
    return TrialSpec(**{**values, "waits": tuple(values.get("waits", ()))})
