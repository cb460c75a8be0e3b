"""The node's cache of decoded images: one hashed uint8 memory map an entry, built once under a lock, verified before use."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.prepare import Prepared, Write

FORMAT = 1
IMAGES, FACTS, SUMS = "images.npy", "facts.json", "checksums.json"

Entry = tuple[Prepared, NDArray[np.uint8] | None]
Build = Callable[[Write], Prepared]


def cache_folder(configured: str) -> Path:
    """Return the folder of entries: as configured, or "orchestrate" in the user's cache folder (XDG)."""
    if configured:
        return Path(configured).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestrate"


def entry_key(*words: str) -> str:
    """Return the name of an entry: a hash of everything its content depends on."""
    return hashlib.sha256("\0".join((str(FORMAT), *words)).encode()).hexdigest()[:24]


def load_entry(folder: Path, key: str) -> Entry | None:
    """Return a verified entry, its images as a read-only memory map (None if it holds facts alone), or None if it is not sound.

    The images' SHA-256 is read again only when the file's size or times differ from those noted with the checksum.
    """
    entry = folder / key
    try:
        sums = json.loads((entry / SUMS).read_text())
        facts = (entry / FACTS).read_bytes()
        if hashlib.sha256(facts).hexdigest() != sums["facts"]:
            return None
        prepared = Prepared.from_json(facts.decode())
        if not sums["images"]:
            return prepared, None
        if _stamp(entry / IMAGES) != sums["stamp"] and not _verify_again(entry, sums):
            return None
        images = np.load(entry / IMAGES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if images.shape != (len(prepared.ids), *prepared.shape) or images.dtype != np.uint8:
        return None
    return prepared, images.view(np.ndarray)


def build_entry(folder: Path, key: str, build: Build, *, shape: tuple[int, int, int] | None) -> Entry:
    """Build an entry unless another process just did, and return it; raises OSError when the disk does not take it.

    `build` gets a function that appends blocks of images; `shape` None keeps the facts alone. The entry appears under its
    name in one step when it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{key}.lock"):
        found = load_entry(folder, key)
        if found:
            return found
        with tempfile.TemporaryDirectory(prefix=f"{key}.", dir=folder, ignore_cleanup_errors=True) as unfinished:
            entry = Path(unfinished) / key
            entry.mkdir()
            _write_entry(entry, build, shape)
            shutil.rmtree(folder / key, ignore_errors=True)
            entry.rename(folder / key)
        loaded = load_entry(folder, key)
    if loaded is None:
        raise OSError(f"{folder / key} cannot be read back")
    return loaded


def free_bytes(folder: Path) -> int:
    """Return the free space where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _write_entry(entry: Path, build: Build, shape: tuple[int, int, int] | None) -> None:
    if shape is None:
        prepared, digest, stamp = build(lambda _: None), "", []
    else:
        prepared = _write_images(entry / IMAGES, build, shape)
        digest, stamp = _digest(entry / IMAGES), _stamp(entry / IMAGES)
    facts = prepared.to_json().encode()
    (entry / FACTS).write_bytes(facts)
    sums = {"images": digest, "stamp": stamp, "facts": hashlib.sha256(facts).hexdigest()}
    (entry / SUMS).write_text(json.dumps(sums))


def _write_images(path: Path, build: Build, shape: tuple[int, int, int]) -> Prepared:
    """Stream the blocks behind a .npy header, which is written again when the number of rows is known (it has room for it)."""

    def header(rows: int) -> dict[str, Any]:
        return {"descr": "|u1", "fortran_order": False, "shape": (rows, *shape)}

    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header(0))
        start = file.tell()
        prepared = build(lambda block: file.write(np.ascontiguousarray(block).data))
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header(len(prepared.ids)))
        if file.tell() != start:
            raise OSError(f"{path}: the .npy header grew from {start} to {file.tell()} bytes")
        file.flush()
        os.fsync(file.fileno())
    return prepared


def _verify_again(entry: Path, sums: dict[str, Any]) -> bool:
    """Compare the images with their checksum; when they agree, note their new times so that the next load is quick."""
    if _digest(entry / IMAGES) != sums["images"]:
        return False
    sums["stamp"] = _stamp(entry / IMAGES)
    try:
        fresh = entry / f"{SUMS}.{os.getpid()}"
        fresh.write_text(json.dumps(sums))
        fresh.replace(entry / SUMS)
    except OSError:  # a read-only cache is verified each time
        return True
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    info = path.stat()
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the system releases it when its holder dies, so a stale one cannot block.

    Where the file system has no locks two builders may build the same entry; the last one's rename wins.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield
            return
        yield
