"""Similarity: kNN accuracy against scikit-learn's, and features of a frozen backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.setup.similarity import chance_corrected, frozen_features, knn_accuracy, similarity
from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits


def test_nearest_neighbours_agree_with_scikit_learn() -> None:
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 90)
    features = (rng.normal(size=(90, 8)) + 0.8 * targets[:, None] * np.eye(8)[targets]).astype(np.float32)
    for k in (1, 3):
        expected = cross_val_score(KNeighborsClassifier(k, metric="cosine"), features, targets, cv=LeaveOneOut()).mean()
        assert knn_accuracy(features, targets, neighbours=k) == pytest.approx(expected, abs=0.05 if k > 1 else 1e-9)


def test_separable_and_random_features() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(300) % 3
    assert knn_accuracy((np.eye(3)[targets] + rng.normal(0, 0.05, (300, 3))).astype(np.float32), targets) == 1.0
    assert 0.2 < knn_accuracy(rng.normal(size=(300, 3)).astype(np.float32), targets) < 0.47
    assert knn_accuracy(np.ones((3, 2), np.float32), np.array([0, 0, 0])) == 1.0


def test_chance_correction() -> None:
    assert chance_corrected(1.0, 10) == 1.0
    assert chance_corrected(0.1, 10) == 0.0
    assert chance_corrected(0.05, 10) == 0.0
    assert chance_corrected(0.75, 2) == pytest.approx(0.5)


def test_features_of_a_backbone_from_a_weights_file(tmp_path: Path) -> None:
    import torch
    import torchvision

    torch.manual_seed(0)
    backbone = torchvision.models.squeezenet1_1(weights=None).eval()
    torch.save(backbone.state_dict(), tmp_path / "w.pth")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    images[::2] //= 8  # dark ones are one class
    part = ImageSet(images, np.arange(12) % 2, tuple(map(str, range(12))))
    splits = Splits(part, part, part, ("dark", "bright"), "f", (0.5,) * 3, (0.2,) * 3)
    config = TrainConfig(model="squeezenet1_1", weights=str(tmp_path / "w.pth"), image_size=64, finetune_depth="head")
    features, targets = frozen_features(config, splits)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = backbone.features((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).flatten(1).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert targets.tolist() == part.targets.tolist()
    assert similarity(config, splits) == 1.0
