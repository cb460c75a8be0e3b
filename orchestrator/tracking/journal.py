"""The append-only journal of what the tracker was told: it survives any crash and remembers what has been delivered."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.store.workspace import read_json, write_json

SYNC_EVERY = 50
"""Events between two fsyncs; a killed process loses none, a power cut at most these."""
OPENED = "opened"
"""The kind of the first event, which holds the journal's id."""


@dataclass(frozen=True)
class Event:
    """One call of the tracker: its number, when it was told (ms since 1970), and where its line ends in the file."""

    seq: int
    time: int
    kind: str
    data: dict[str, Any]
    end: int = 0


class Journal:
    """Events as lines of JSON, written by one process, and how far a target has received them."""

    def __init__(self, path: Path, *, target: str = "") -> None:
        """Open or create the journal; `target` names who receives it: another target receives everything again."""
        self.path = path
        self.offset_path = path.with_name(f"{path.name}.delivered")
        self._target = hashlib.sha256(target.encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._seq, self.id = 0, ""
        for event in read_events(path):
            self._seq = event.seq
            if event.kind == OPENED and not self.id:
                self.id = str(event.data["id"])
        self._delivered, self._offset = self._read_offset()
        self._seq = max(self._seq, self._delivered)
        self._torn = _ends_torn(path)
        self._file = -1
        self._unsynced = 0
        if not self.id:
            self.id = uuid.uuid4().hex
            self.append(OPENED, {"id": self.id})
            self.sync()

    def append(self, kind: str, data: Mapping[str, Any]) -> int:
        """Write one event and return its number; raises OSError (disk full), and the next append starts a clean line."""
        with self._lock:
            if self._file < 0:
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._seq += 1
            event = {"seq": self._seq, "time": time.time_ns() // 1_000_000, "kind": kind, "data": dict(data)}
            line = json.dumps(event, separators=(",", ":"), default=str).encode() + b"\n"
            if self._torn:
                line = b"\n" + line
            self._torn = True
            _write_all(self._file, line)
            self._torn = False
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY:
                self._sync()
            return self._seq

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        with self._lock:
            self._sync()

    def pending(self, limit: int) -> list[Event]:
        """Return the oldest events not yet delivered, at most `limit`."""
        found: list[Event] = []
        for event in read_events(self.path, self._offset):
            if event.seq > self._delivered:
                found.append(event)
            if len(found) == limit:
                break
        return found

    @property
    def waiting(self) -> int:
        """Return how many events are not yet delivered."""
        return self._seq - self._delivered

    def mark(self, event: Event) -> None:
        """Remember that everything up to `event` has been delivered."""
        self.sync()
        self._delivered, self._offset = event.seq, event.end
        write_json(self.offset_path, {"seq": event.seq, "offset": event.end, "target": self._target})

    def rewind(self) -> None:
        """Forget what has been delivered, so that everything is delivered again."""
        self._delivered, self._offset = 0, 0
        self.offset_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync and close the file; a later append opens it again."""
        with self._lock:
            if self._file >= 0:
                self._sync()
                os.close(self._file)
                self._file = -1

    def _sync(self) -> None:
        if self._unsynced and self._file >= 0:
            os.fsync(self._file)
            self._unsynced = 0

    def _read_offset(self) -> tuple[int, int]:
        try:
            stored = read_json(self.offset_path)
            seq, offset = int(stored["seq"]), int(stored["offset"])
            fits = stored["target"] == self._target and offset <= _size(self.path)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0, 0
        return (seq, offset) if fits else (0, 0)


def read_events(path: Path, offset: int = 0) -> Iterator[Event]:
    """Yield the whole events from a byte offset on; a half-written line is passed over."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            event = _parse(line, offset)
            if event is not None:
                yield event


def _parse(line: bytes, end: int) -> Event | None:
    try:
        stored = json.loads(line)
        return Event(int(stored["seq"]), int(stored["time"]), str(stored["kind"]), dict(stored["data"]), end)
    except (ValueError, KeyError, TypeError):
        return None


def _ends_torn(path: Path) -> bool:
    if _size(path) == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
