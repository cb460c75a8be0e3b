"""The whole diagnosis of a small model on the real digits scans: JSON-ready, advice that holds, figures that open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from orchestrator.diagnosis import diagnose
from orchestrator.diagnosis.figures import save_figures
from trainables.data.dataset import ImageSet, Splits


@pytest.fixture(scope="module")
def digits() -> Splits:
    raw = load_digits()
    images = (raw.images * 255 / 16).round().astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    parts = [
        ImageSet(images[rows], raw.target[rows].astype(np.int64), tuple(f"d/{i}" for i in rows))
        for rows in np.split(order, [900, 1400])
    ]
    return Splits(*parts, tuple(str(i) for i in range(10)), "f", (0.3,), (0.3,))


@pytest.fixture(scope="module")
def found(digits: Splits) -> dict[str, object]:
    model = LogisticRegression(max_iter=300).fit(digits.train.images.reshape(900, -1) / 255.0, digits.train.targets)

    def predict(images: np.ndarray) -> np.ndarray:
        return model.predict_proba(images.reshape(len(images), -1) / 255.0)

    return diagnose(predict(digits.val.images), digits, predict=predict, seed=0, train_accuracy=1.0)


def test_says_of_digits_what_is_true_of_digits(found: dict[str, object]) -> None:
    assert found["accuracy"] > 0.9 and found["forbidden"] == ["hflip", "vflip", "rotate180"]
    drops = {drop["name"]: drop["drop"] for drop in found["probe"]}
    assert drops["mirrored"] > 0.3 and drops["shifted"] > drops["noisy"]
    assert "translate" in found["recommended"]
    assert not {"flip", "crop_flip"} & set(found["recommended"])


def test_goes_through_json_and_is_seeded(found: dict[str, object], digits: Splits) -> None:
    assert json.loads(json.dumps(found)) == found
    assert len(found["worst"]) == 24 and found["worst"][0]["id"] == digits.val.ids[found["worst"][0]["row"]]


def test_figures_open(found: dict[str, object], digits: Splits, tmp_path: Path) -> None:
    paths = save_figures(found, digits.val.images, tmp_path / "figures")
    assert [path.name for path in paths] == ["worst_predictions.png", "probe.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_regression_shows_the_largest_errors(digits: Splits, tmp_path: Path) -> None:
    values = ImageSet(digits.val.images[:5], np.array([1.0, 2.0, 3.0, 4.0, 5.0]), tuple("abcde"))
    splits = Splits(values, values, values, (), "f", (0.3,), (0.3,))
    predicted = np.array([[1.0], [2.5], [0.0], [4.0], [5.1]])
    found = diagnose(predicted, splits, predict=lambda images: images, seed=0)
    assert [row["id"] for row in found["worst"][:3]] == ["c", "b", "e"]
    assert found["recommended"] == [] and found["forbidden"] == []
    assert [path.name for path in save_figures(found, values.images, tmp_path)] == ["worst_predictions.png"]
