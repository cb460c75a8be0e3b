"""Turn a compact folder of public image data into the layouts that torchvision (and `data.source: cifar10`) reads.

Run:  python benchmarks/restore_data.py SOURCE OUT          SOURCE holds cifar10/ and/or fashion-mnist/

CIFAR-10 there is `labels.u8` (60,000 bytes), `batches.meta`, and lossless strips of 500 images (32 px wide, 16,000 px high),
`train-*.webp` then `test-*.webp`. 93 of its images come from a JPEG copy, so the restored batches do not have torchvision's
MD5s; everything else is exact. Fashion-MNIST's four files are the original ones and only move to where torchvision looks.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
STRIP, BATCH = 500, 10_000


def restore_cifar10(source: Path, root: Path) -> Path:
    """Write `root`/cifar-10-batches-py from the strips in `source`, and return that folder; an existing one is kept."""
    out = root / "cifar-10-batches-py"
    if (out / "batches.meta").exists():
        return out
    out.mkdir(parents=True, exist_ok=True)
    labels = np.fromfile(source / "labels.u8", np.uint8).tolist()
    strips = [*sorted(source.glob("train-*.webp")), *sorted(source.glob("test-*.webp"))]
    if len(strips) * STRIP != len(labels):
        raise SystemExit(f"{source}: {len(strips)} strips of {STRIP} images for {len(labels)} labels; is the folder complete?")
    per_batch = BATCH // STRIP
    for number, name in enumerate(BATCHES):
        pixels = np.concatenate([_strip(path) for path in strips[number * per_batch : (number + 1) * per_batch]])
        rows = slice(number * BATCH, (number + 1) * BATCH)
        (out / name).write_bytes(pickle.dumps({"batch_label": name, "labels": labels[rows], "data": pixels}, protocol=4))
    shutil.copy(source / "batches.meta", out)
    return out


def restore_fashion_mnist(source: Path, root: Path) -> Path:
    """Copy the four files of Fashion-MNIST to where torchvision looks below `root`, and return that folder."""
    out = root / "FashionMNIST" / "raw"
    out.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*-ubyte.gz"):
        shutil.copy(file, out)
    return out


SOURCES = {"cifar10": ("cifar10", restore_cifar10), "fashion_mnist": ("fashion-mnist", restore_fashion_mnist)}
"""`data.source` -> its folder in the compact layout, and what restores it."""


def restore(source: str, folder: Path, root: Path) -> Path:
    """Restore one `data.source` from a compact folder below `root`, and return the `data.root` to be used."""
    name, work = SOURCES[source]
    work(folder / name, root)
    return root


def _strip(path: Path) -> np.ndarray:
    """Return a strip's images as uint8 [500, 3072], channel by channel as in the original batches."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(STRIP, 32, 32, 3)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(STRIP, 3072)


def main() -> None:
    """Restores what the source folder holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    found = [(name, work) for name, work in SOURCES.values() if (asked.source / name).is_dir()]
    if not found:
        raise SystemExit(f"{asked.source}: holds none of {', '.join(name for name, _ in SOURCES.values())}")
    for name, work in found:
        print(work(asked.source / name, asked.out))


if __name__ == "__main__":
    main()
