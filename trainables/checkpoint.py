"""Resumable training states on disk: never half-written, checked before use, the newest valid one wins."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEEP = 2
"""Checkpoints kept in a folder: the newest, and one to fall back on."""
FORMAT_VERSION = 1
_PREFIX, _STATE, _MANIFEST, _SUCCESS = "epoch-", "state.pt", "manifest.json", "_SUCCESS"

log = logging.getLogger(__name__)


def save(folder: Path | str, state: Mapping[str, Any], *, epoch: int) -> Path:
    """Write `state` as the checkpoint of `epoch` and drop all but the newest two; returns its folder.

    Everything is written and fsynced under a temporary name, `_SUCCESS` last, then renamed: a reader sees all or nothing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_PREFIX}{epoch:08d}"
    partial = folder / f".{target.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    torch.save(dict(state), partial / _STATE)
    _sync(partial / _STATE)
    manifest = {"version": FORMAT_VERSION, "epoch": epoch, "sha256": {_STATE: sha256_of(partial / _STATE)}}
    for name, text in ((_MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n"), (_SUCCESS, "")):
        (partial / name).write_text(text)
        _sync(partial / name)
    _sync(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)
    _collect(folder)
    return target


def load_newest(folder: Path | str) -> tuple[int, dict[str, Any]] | None:
    """Return (epoch, state on the CPU) of the newest valid checkpoint, or None; broken ones are skipped with a warning."""
    for found in reversed(_listed(Path(folder))):
        try:
            return _read(found)
        except Exception as error:  # whatever a torn or hostile file raises, an older checkpoint may still be good
            log.warning("checkpoint %s skipped: %s", found, error)
    return None


def save_weights(path: Path | str, weights: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> str:
    """Write weights as safetensors, replacing the file atomically; returns their SHA-256.

    `metadata` {"pipeline": JSON of the input pipeline} lets a later run start from these weights with the right images.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()},
            str(partial),
            metadata=dict(metadata or {}),
        )
        _sync(partial)
        digest = sha256_of(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)
    return digest


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """Read weights written by `save_weights`; whoever knows their SHA-256 checks it first."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(str(path))
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(found: Path) -> tuple[int, dict[str, Any]]:
    """Read one checkpoint; raises whatever is wrong with it."""
    if not (found / _SUCCESS).exists():
        raise ValueError("no _SUCCESS, it was not finished")
    manifest = json.loads((found / _MANIFEST).read_text())
    if manifest["version"] > FORMAT_VERSION:
        raise ValueError(f"format {manifest['version']}, this program reads up to {FORMAT_VERSION}")
    if sha256_of(found / _STATE) != manifest["sha256"][_STATE]:
        raise ValueError("SHA-256 differs from its manifest")
    state: dict[str, Any] = torch.load(found / _STATE, map_location="cpu", weights_only=True)
    return int(manifest["epoch"]), state


def _listed(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def _collect(folder: Path) -> None:
    """Remove what a killed writer left and all but the newest finished checkpoints."""
    for left in folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    finished = [found for found in _listed(folder) if (found / _SUCCESS).exists()]
    for old in finished[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file's or folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
