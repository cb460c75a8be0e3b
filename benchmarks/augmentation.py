"""Augmentation at 32 px: batched operations against torchvision v2 in a DataLoader, images per CPU second, interleaved.

Run: python benchmarks/augmentation.py [--images 4096] [--rounds 7] [--out benchmarks/results/augmentation.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from trainables.allocator import keep_freed_memory
from trainables.augment import augment_batch
from trainables.randomness import permutation

BATCH = 256
SETS = {"crop + flip": "crop_flip", "crop + flip + rotate + colour": "crop_flip+rotate+colour"}


class Reference(Dataset[torch.Tensor]):
    """The plain way: one image at a time, as a PIL image or as a tensor, through torchvision v2."""

    def __init__(self, images: np.ndarray[Any, Any], name: str, *, pil: bool) -> None:
        self.images, self.pil = images, pil
        steps: list[Any] = [v2.RandomCrop(32, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()]
        if "rotate" in name:
            steps += [v2.RandomRotation(10, v2.InterpolationMode.BILINEAR), v2.ColorJitter(0.1, 0.1, 0.1, 0.02)]
        self.transform = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        image = self.images[row]
        given = Image.fromarray(image) if self.pil else torch.from_numpy(image).permute(2, 0, 1)
        result: torch.Tensor = self.transform(given)
        return result


def reference(images: np.ndarray[Any, Any], name: str, *, pil: bool) -> None:
    """Run one epoch of the plain way in this process (no workers: all CPU seconds are counted)."""
    for _ in DataLoader(Reference(images, name, pil=pil), batch_size=BATCH, shuffle=True):
        pass


def ours(images: np.ndarray[Any, Any], name: str) -> None:
    """Run one epoch of batches as indices into the store, augmented as tensors."""
    for rows in torch.split(permutation(0, "order", 0, len(images)), BATCH):
        batch = torch.from_numpy(images[rows.numpy()])
        augment_batch(batch, name=name, seed=0, epoch=0, sample_index=rows)


def cpu_rate(work: Callable[[], None], images: int) -> float:
    """Return images per CPU second of this process."""
    started = time.process_time()
    work()
    return images / (time.process_time() - started)


def measure(count: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row a set: medians of interleaved rounds and the ratio to the faster of the two plain ways."""
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    rows = []
    for label, name in SETS.items():
        ways: dict[str, Callable[[], None]] = {
            "torchvision v2, PIL": lambda name=name: reference(images, name, pil=True),
            "torchvision v2, tensor": lambda name=name: reference(images, name, pil=False),
            "ours": lambda name=name: ours(images, name),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, work in ways.items():
                rates[way].append(cpu_rate(work, count))
        medians = {way: round(statistics.median(values)) for way, values in rates.items()}
        spread = {way: [round(min(values)), round(max(values))] for way, values in rates.items()}
        best = max(rate for way, rate in medians.items() if way != "ours")
        rows.append(
            {"set": label, "images_per_cpu_second": medians, "range": spread, "ratio": round(medians["ours"] / best, 1)}
        )
    return rows


def processor() -> str:
    """Return the processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "augmentation.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = keep_freed_memory()  # for both sides
    measure(512, 1)  # warm up imports and allocators
    rows = measure(options.images, options.rounds)
    machine = {"processor": processor(), "cores": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    command = f"python benchmarks/augmentation.py --images {options.images} --rounds {options.rounds}"
    report: dict[str, Any] = {"command": command, "machine": machine, "versions": versions, "batch": BATCH, "threads": 1}
    report |= {"keeps_freed_memory": kept, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    for row in rows:
        print(f"{row['set']}: {row['images_per_cpu_second']} -> {row['ratio']}x")


if __name__ == "__main__":
    sys.exit(main())
