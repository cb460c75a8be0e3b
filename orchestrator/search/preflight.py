"""What one node of a cluster must have before trials start there: the data, the run folder, the tracker, the same versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "numpy")


def versions() -> dict[str, str]:
    """Return the versions that must agree between the driver and every node."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def check_node(data: Mapping[str, Any], root: str, tracking: str, expected: Mapping[str, str]) -> list[str]:
    """Return what is wrong on the node that runs this, empty when trials can start."""
    own = versions()
    faults = [
        f"{name} is {own.get(name, 'missing')}, the driver has {want}"
        for name, want in expected.items()
        if own.get(name) != want
    ]
    return [*faults, *_data_faults(data), *_storage_faults(Path(root)), *_tracking_faults(tracking)]


def _data_faults(data: Mapping[str, Any]) -> list[str]:
    kind, _, place = str(data["source"]).partition(":")
    path = place if kind in ("folder", "csv") else str(data.get("root") or "")
    if not path or Path(path).exists():
        return []
    return [f"data: {path} is not there; put it on storage that every node sees, or copy it to the same path on each"]


def _storage_faults(root: Path) -> list[str]:
    """Read the token that the driver left, and leave one that can be read back."""
    if not (root / TOKEN).exists():
        return [f"run_dir: {root} is not the driver's folder; put run_dir on storage that every node shares"]
    own = root / f".{platform.node()}.token"
    try:
        own.write_text("here")
        return [] if own.read_text() == "here" else [f"run_dir: what is written to {root} is not what is read back"]
    except OSError as error:
        return [f"run_dir: cannot write to {root} ({error.strerror})"]
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _tracking_faults(uri: str) -> list[str]:
    if not uri.startswith(("http://", "https://")):
        return []
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
            return []
    except urllib.error.HTTPError:
        return []  # it answers
    except (OSError, ValueError) as error:
        return [f"tracking.uri: {uri} does not answer ({getattr(error, 'reason', error)})"]


TOKEN = ".driver.token"
"""Left in the run folder by the driver while nodes are checked."""


@contextlib.contextmanager
def driver_token(root: Path) -> Any:
    """Leave the driver's token in the run folder for as long as nodes look for it."""
    (root / TOKEN).write_text(platform.node())
    try:
        yield
    finally:
        (root / TOKEN).unlink(missing_ok=True)
