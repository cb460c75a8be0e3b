"""One driver a run folder: an operating-system lock that dies with its holder, beside a note that says who that is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import UserError

_held: dict[Path, int] = {}
"""How often this process holds each lock: a pipeline holds it around its stages, each of which asks again."""


@contextmanager
def driver_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run folder; raises UserError naming the holder when another live driver has it.

    The lock is the kernel's (`fcntl`, also over NFS): a killed driver holds nothing, so there is no stale lock to break.
    """
    path = path.absolute()
    if path in _held:
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path)
        _held[path] = 1
        try:
            yield
        finally:
            del _held[path]
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise UserError(f"{path}: this storage cannot lock files ({error.strerror}); choose another run_dir") from error
        raise UserError(
            f"{path.parent}: in use by {_holder(handle)}; wait for it, stop it, or choose another `name` or `run_dir`"
        ) from error
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(note).encode(), 0)


def _holder(handle: int) -> str:
    """Return who wrote the note in the lock file, as words."""
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "another driver"
