"""One tiny ensemble of stand-in members on random images, exported once for the whole room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from orchestrator.deliver.export import export_bundle
from orchestrator.store.records import MemberRecord
from trainables.data.dataset import ImageSet, Splits

CLASSES = ("=cat", "dog", "eel")
ENSEMBLE = {
    "voting": "soft",
    "temperature": 1.3,
    "members": [
        {"trial_id": "t1", "weight": 0.5, "temperature": 0.7},
        {"trial_id": "t2", "weight": 0.3, "temperature": 2.0},
        {"trial_id": "t3", "weight": 0.2, "temperature": 1.0},
    ],
}


class Tiny(nn.Module):
    """uint8 [N, H, W, 3] -> probabilities [N, 3], sharp enough that members disagree."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        return torch.softmax(self.head(torch.relu(self.conv(pixels)).mean((2, 3))) * 20, dim=1)


def load_tiny(record: MemberRecord, weights: Path, splits: Splits) -> nn.Module:
    """Load a stand-in member, as `load_member` loads a real one."""
    del record, splits
    member = Tiny()
    member.load_state_dict(load_file(weights))
    return member.eval()


def finished(trial_id: str) -> MemberRecord:
    """Return a finished record."""
    return MemberRecord(trial_id, "trial", "image", {"lr": 0.1}, 0, "c", "f", "finished", best_epoch=1)


@dataclass(frozen=True)
class World:
    """What was exported, and all that it came from."""

    bundle: Path
    members: list[tuple[MemberRecord, Path]]
    modules: list[nn.Module]
    splits: Splits
    ensemble: dict[str, Any] = field(default_factory=lambda: ENSEMBLE)
    load: Callable[[MemberRecord, Path, Splits], nn.Module] = load_tiny

    def member_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return [M, N, K] of the live members."""
        with torch.no_grad():
            return torch.stack([m(torch.from_numpy(images)) for m in self.modules]).numpy()


def random_splits(seed: int, *, size: tuple[int, int] = (8, 8)) -> Splits:
    """Return three splits of random images."""
    rng = np.random.default_rng(seed)

    def part(name: str, n: int) -> ImageSet:
        images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
        return ImageSet(images, rng.integers(0, 3, n), tuple(f"{name}/{i}" for i in range(n)))

    return Splits(part("a", 12), part("b", 40), part("c", 20), CLASSES, "f", (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three stand-in members and their bundle."""
    root = tmp_path_factory.mktemp("deliver")
    members, modules = [], []
    for number in (1, 2, 3):
        torch.manual_seed(number)
        path = root / f"w{number}.safetensors"
        save_file(Tiny().state_dict(), path)
        members.append((finished(f"t{number}"), path))
    splits = random_splits(0)
    modules = [load_tiny(record, path, splits) for record, path in members]
    bundle = export_bundle(members, ENSEMBLE, splits, root / "bundle", load=load_tiny, scores={"test/accuracy": 0.5})
    return World(bundle, members, modules, splits)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    """A copy of the bundle to spoil."""
    return Path(shutil.copytree(world.bundle, tmp_path / "copy"))


@pytest.fixture
def photos(world: World, tmp_path: Path) -> Path:
    """The test images as PNG files, one subfolder a class."""
    root = tmp_path / "photos"
    for index, (image, target) in enumerate(zip(world.splits.test.images, world.splits.test.targets, strict=True)):
        folder = root / CLASSES[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return root
