"""The bundle: a folder that holds everything an ensemble needs, written whole or not at all, and checked before every use."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.deliver.runtime import MANIFEST, MODEL, BundleError, file_digest, manifest_bytes, verify
from orchestrator.errors import UserError

WEIGHTS = "weights"
RUNTIME = "runtime.py"


@dataclass(frozen=True)
class Bundle:
    """A folder whose every file was checked, and its manifest."""

    root: Path
    manifest: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The ensemble as one ONNX graph."""
        return self.root / MODEL

    @property
    def runtime(self) -> Path:
        """The program that runs the bundle without this one."""
        return self.root / RUNTIME

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns; empty for regression."""
        return tuple(self.manifest["classes"])

    @property
    def digest(self) -> str:
        """SHA-256 over all that the bundle holds: equal digests are equal ensembles."""
        return str(self.manifest["digest"])


def open_bundle(path: Path | str) -> Bundle:
    """Check every file of a bundle; raises UserError naming the first that changed, is missing, or does not belong."""
    root = Path(path)
    try:
        return Bundle(root, verify(root))
    except BundleError as error:
        raise UserError(str(error)) from error


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder, with the size and SHA-256 of every file in it."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    files = {p.relative_to(folder).as_posix(): {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in paths}
    (folder / MANIFEST).write_bytes(manifest_bytes({**manifest, "files": files}))


@contextlib.contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that takes its place when the block ends well; until then the old one stays.

    Raises UserError when `out` exists and is not a bundle: a folder of other things is never overwritten.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not a bundle; choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    try:
        yield fresh
        fresh.chmod(0o755)
        _sync(fresh)
        _swap(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, out: Path) -> None:
    """Put `fresh` where `out` is; the old folder comes back if that fails."""
    if not out.exists():
        fresh.rename(out)
        return
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old-"))
    out.rename(aside / out.name)
    try:
        fresh.rename(out)
    except BaseException:
        (aside / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Force every file of a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
