"""The searches that are timed: which data, which net, how long; both sides read them here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE, REDUCTION, LR = 1, 3, (1e-3, 0.3)
HELD_OUT = 0.05
"""Share of the photos' training folder that our side holds out for testing; the plain side leaves out as many."""


@dataclass(frozen=True)
class Case:
    """One search: variant B or a ResNet-18 from scratch, or (photos) the head of a pretrained MobileNetV2."""

    says: str
    source: str = "digits"
    root: str = ""
    weights: str = ""
    side: int = 32
    channels: int = 1
    images: int = 0
    model: str = "cnn_b"
    width: int = 16
    batch: int = 32
    epochs: int = 4

    @property
    def photos(self) -> bool:
        """Return whether it is the one on a folder of photos."""
        return self.source.startswith("folder:")

    def data(self) -> dict[str, Any]:
        """Return the `data:` section of our side."""
        more = {"test_fraction": HELD_OUT} if self.photos else {}
        return {"source": self.source, "root": self.root, "image_size": self.side, "limit": self.images, **more}

    def train(self) -> dict[str, Any]:
        """Return the `train:` section of our side."""
        known: dict[str, Any] = {
            "batch_size": self.batch,
            "optimizer": "sgd",
            "augmentation": "crop_flip",
            "epochs": self.epochs,
        }
        if self.photos:
            return {**known, "model": "mobilenet_v2", "weights": self.weights, "finetune_depth": "head", "dropout": 0.2}
        return {**known, "model": self.model, "width": self.width, "dropout": 0.0}


def cases(data: Path | None = None) -> dict[str, Case]:
    """Return the cases by name; those on real data only where ORCHESTRATE_DATA (or shared/data beside the repository) is."""
    root = Path(data or os.environ.get("ORCHESTRATE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    found = {
        "small": Case("small CNN, 420 images of 32 px, 4 epochs: bound by overhead", images=420),
        "trivial": Case("a CNN of width 2, 60 images of 8 px, one epoch", side=8, images=60, width=2, epochs=1),
    }
    if (root / "fashion-mnist").is_dir():
        for name, images in (("fashion", 0), ("fashion_5k", 5_000), ("fashion_20k", 20_000)):
            found[name] = Case(
                f"small CNN, {images or 'all 60,000'} images of Fashion-MNIST, 3 epochs: bound by computing",
                source="fashion_mnist", root=str(root), side=28, images=images, width=16, batch=128, epochs=3,
            )  # fmt: skip
    if (root / "cifar10").is_dir():
        found["cifar"] = Case(
            "ResNet-18 (11.2 M parameters) on 400 images of CIFAR-10, 3 epochs: bound by computing",
            source="cifar10", root=str(root), side=32, channels=3, images=400, model="cifar_resnet18", batch=64, epochs=3,
        )  # fmt: skip
    if (root / "hymenoptera_data").is_dir():
        found["photos"] = Case(
            "head of a pretrained MobileNetV2, 244 + 153 JPEG photos at 128 px, 6 epochs",
            source=f"folder:{root / 'hymenoptera_data'}", weights=str(root / "weights" / "mobilenet_v2-imagenet-from-int8.pth"),
            side=128, channels=3, batch=16, epochs=6,
        )  # fmt: skip
    return found
