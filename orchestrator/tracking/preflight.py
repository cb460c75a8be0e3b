"""Looks, before a search starts, whether MLflow can be reached; needs neither MLflow nor torch, so any node can ask."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.tracking.uri import NONE, host_and_port, shown

TIMEOUT_S = 5.0
NEXT_STEP = "start it, correct tracking.uri (or MLFLOW_TRACKING_URI), or go without: -o tracking.uri=none"
SQLITE_MAGIC = b"SQLite format 3\0"


def check_tracking(uri: str, *, timeout: float = TIMEOUT_S) -> None:
    """Raise UserError, naming the address and the next step, when nothing there takes scores within `timeout` seconds."""
    if uri == NONE:
        return
    if uri.startswith("sqlite:///"):
        _check_file(Path(uri.removeprefix("sqlite:///")))
    elif uri.startswith(("http://", "https://")):
        _check_server(uri, timeout)
    else:
        _check_port(uri, timeout)


def _check_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        head = b""
        if path.exists():
            with path.open("rb") as file:
                head = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise UserError(f"tracking: {path} cannot be used ({error.strerror}); {NEXT_STEP}") from error
    if head and head != SQLITE_MAGIC:
        raise UserError(f"tracking: {path} is not an SQLite database; move it away, or {NEXT_STEP}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"tracking: {path} is not writable; {NEXT_STEP}")


def _check_server(uri: str, timeout: float) -> None:
    """Ask for one experiment: unlike /health, this also meets the server's host check and its passwords."""
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=_credentials())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"tracking: no MLflow server answers at {shown(uri)} ({reason}); {NEXT_STEP}") from error
    if status in (401, 403):
        raise UserError(
            f"tracking: the server at {shown(uri)} refuses this client (HTTP {status}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or start it with --allowed-hosts naming this address; "
            "or go without: -o tracking.uri=none"
        )
    if status >= 500:
        raise UserError(f"tracking: the server at {shown(uri)} answers HTTP {status}; look at its log, or {NEXT_STEP}")


def _check_port(uri: str, timeout: float) -> None:
    where = host_and_port(uri)
    if where is None:
        return
    try:
        socket.create_connection(where, timeout=timeout).close()
    except OSError as error:
        raise UserError(f"tracking: nothing answers at {shown(uri)} ({error}); {NEXT_STEP}") from error


def _credentials() -> dict[str, str]:
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
