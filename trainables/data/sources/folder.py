"""A folder of images, one subfolder a class, with or without train / val / test above: ImageFolder's layout, not its traps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainables.data.dataset import DataConfig
from trainables.data.decode import EXTENSIONS
from trainables.data.listing import SPLIT_WORDS, Listing, Progress, order_classes, stat_signature


def signature(config: DataConfig) -> str:
    """Return a text that changes with any visible file below the folder."""
    return stat_signature(path for path in _walk(_root(config)))


def read(config: DataConfig, progress: Progress | None = None) -> Listing:
    """List the images below `folder:PATH`; raises ValueError for what would silently spoil training."""
    if config.task != "classification":
        raise ValueError(f"data.task: got {config.task!r} with a folder; regression needs csv:PATH with a number as label")
    root = _root(config)
    rows: list[tuple[str, str, Path]] = []
    skipped: list[tuple[str, str]] = []
    parts = _parts(root)
    for split, folder in parts:
        for name in _class_folders(folder):
            for path in _walk(folder / name):
                reason = _reason_to_skip(path, root)
                if reason:
                    skipped.append((path.relative_to(root).as_posix(), reason))
                else:
                    rows.append((split, name, path))
    if progress:
        progress("list files", len(rows), len(rows))
    classes = order_classes(_train_classes(root, parts), where=str(root))
    unknown = sorted({f"{split}/{name}" for split, name, _ in rows if name not in classes})
    if unknown:
        raise ValueError(f"data.source: {root}: {', '.join(unknown)} not among the classes of train ({', '.join(classes)})")
    number = {name: index for index, name in enumerate(classes)}
    return Listing(
        ids=tuple(path.relative_to(root).as_posix() for _, _, path in rows),
        targets=np.array([number[name] for _, name, _ in rows], dtype=np.int64),
        given=tuple(split for split, _, _ in rows),
        classes=classes,
        files=tuple(path for _, _, path in rows),
        skipped=tuple(skipped),
    )


def _root(config: DataConfig) -> Path:
    text = config.source.partition(":")[2]
    root = Path(text).expanduser().absolute()
    if not text or not root.is_dir():
        raise ValueError(
            f"data.source: folder {text!r} is not there (looked at {root}); give a folder with one subfolder a class"
        )
    return root


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _class_folders(folder: Path) -> list[str]:
    names = []
    for path in _visible(folder):
        if path.is_dir():
            _refuse_linked_folder(path)
            names.append(path.name)
    return names


def _refuse_linked_folder(path: Path) -> None:
    if path.is_symlink():
        raise ValueError(f"data.source: {path} is a link to a folder, which is not followed; copy it or name the real folder")


def _parts(root: Path) -> list[tuple[str, Path]]:
    """Return (split, folder) pairs: split subfolders where all visible subfolders are named so, else the root itself."""
    folders = _class_folders(root)
    words = [SPLIT_WORDS.get(name.lower(), "") for name in folders]
    if "train" not in words or not all(words):
        return [("", root)]
    if len(set(words)) < len(words):
        raise ValueError(f"data.source: {root}: two subfolders name the same split ({', '.join(folders)})")
    return sorted((word, root / name) for word, name in zip(words, folders, strict=True))


def _train_classes(root: Path, parts: list[tuple[str, Path]]) -> list[str]:
    names = [name for split, folder in parts if split in ("", "train") for name in _class_folders(folder)]
    if not names:
        raise ValueError(f"data.source: {root} has no subfolders; put the images of each class into a subfolder of its name")
    return names


def _walk(folder: Path) -> Iterator[Path]:
    for where, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in names:
            _refuse_linked_folder(Path(where) / name)
        yield from (Path(where) / name for name in sorted(files) if not name.startswith("."))


def _reason_to_skip(path: Path, root: Path) -> str:
    if path.suffix.lower() not in EXTENSIONS:
        return "not an image file"
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "link that leaves the data folder"
    return ""
