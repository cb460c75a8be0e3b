"""Intervals and verdicts of the canon's table, and the restoring of compact image data, without any real data."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from trainables.data import load_splits
from trainables.data.dataset import DataConfig


@pytest.fixture
def canon_table() -> ModuleType:
    import canon_table as module  # type: ignore[import-not-found]

    return module


@pytest.fixture
def restore_data() -> ModuleType:
    import restore_data as module  # type: ignore[import-not-found]

    return module


def test_the_interval_of_one_seed_is_the_binomials(canon_table: ModuleType) -> None:
    scores = (np.arange(1000) < 300).astype(float)[None]
    mean, low, high = canon_table.interval(scores)
    half = 196 * np.sqrt(0.3 * 0.7 / 1000)  # in points
    assert mean == pytest.approx(30)
    assert low == pytest.approx(30 - half, abs=0.4)
    assert high == pytest.approx(30 + half, abs=0.4)


def test_seeds_that_differ_widen_the_interval(canon_table: ModuleType) -> None:
    rng = np.random.default_rng(0)
    same, apart = (np.stack([rng.random(2000) < p for p in rates]).astype(float) for rates in ((0.5, 0.5), (0.3, 0.7)))
    widths = [canon_table.interval(scores)[2] - canon_table.interval(scores)[1] for scores in (same, apart)]
    assert widths[1] > 5 * widths[0]


@pytest.mark.parametrize(
    ("low", "high", "complete", "said"),
    [
        (4.2, 5.8, True, "yes"),
        (1.0, 3.0, True, "no"),
        (3.0, 6.0, True, "within noise: yes"),
        (2.0, 5.0, True, "within noise: no"),
        (4.2, 5.8, False, "undecided"),
    ],
)
def test_a_claim_holds_only_where_the_whole_interval_does(
    canon_table: ModuleType, low: float, high: float, complete: bool, said: str
) -> None:
    found = canon_table.Measured((low + high) / 2, low, high, 100, 3, 1.0)
    assert canon_table.verdict(canon_table.CLAIMS["augmentation"], found, complete=complete).startswith(said)


def test_the_table_keeps_earlier_rows_and_says_what_was_not_run(canon_table: ModuleType, tmp_path: Path) -> None:
    facts = {"command": "c", "images": 10_000, "machine": "m", "versions": "v"}
    row = canon_table.Measured(5.0, 4.0, 6.0, 100, 3, 1.0, "few images")
    canon_table.write(tmp_path, {"augmentation": row}, facts)
    canon_table.write(tmp_path, {"c_over_a": row}, facts)
    text = (tmp_path / "canon.md").read_text()
    assert text.count("few images") == 2
    assert text.count("not run here") == len(canon_table.CLAIMS) - 2
    assert (tmp_path / "canon.png").read_bytes().startswith(b"\x89PNG")


def test_restored_batches_are_read_pixel_by_pixel(
    restore_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    monkeypatch.setattr(restore_data, "STRIP", 5)
    monkeypatch.setattr(restore_data, "BATCH", 10)
    source, rng = tmp_path / "cifar10", np.random.default_rng(0)
    source.mkdir()
    pixels = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(60, dtype=np.uint8) % 2
    for number in range(12):
        name = f"train-{number:03}.webp" if number < 10 else f"test-{number - 10:03}.webp"
        strip = pixels[5 * number : 5 * number + 5].reshape(160, 32, 3)
        Image.fromarray(strip).save(source / name, lossless=True)
    (source / "labels.u8").write_bytes(labels.tobytes())
    (source / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    restore_data.restore_cifar10(source, tmp_path)
    splits = load_splits(DataConfig(source="cifar10", root=str(tmp_path), cache="memory"))
    assert np.array_equal(splits.test.images, pixels[50:])
    assert np.array_equal(splits.test.targets, labels[50:])
    known = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    for image, target in zip(splits.train.images, splits.train.targets, strict=True):
        assert known[image.tobytes()] == target
    (source / "train-000.webp").unlink()
    with pytest.raises(SystemExit, match="is the folder complete"):
        restore_data.restore_cifar10(source, tmp_path / "again")
