"""load_splits: the same pixels, order and fingerprint by every way, statistics, leaks, skips and fallbacks."""

from __future__ import annotations

import dataclasses
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from trainables.data import load, load_splits
from trainables.data.dataset import DataConfig, Splits
from trainables.data.lazy import LazyImages

MakeFolder = Callable[..., Path]


@pytest.fixture
def photos(make_folder: MakeFolder) -> Path:
    return make_folder({"ants": 20, "bees": 20})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "orchestrate"


def load_folder(root: Path, **options: Any) -> Splits:
    return load_splits(DataConfig(source=f"folder:{root}", **options))


def same(one: Splits, other: Splits) -> bool:
    facts = ("classes", "fingerprint", "mean", "std", "skipped")
    return all(getattr(one, name) == getattr(other, name) for name in facts) and all(
        one.part(split).ids == other.part(split).ids
        and np.array_equal(one.part(split).targets, other.part(split).targets)
        and np.array_equal(np.asarray(one.part(split).images), np.asarray(other.part(split).images))
        for split in ("train", "val", "test")
    )


def test_digits_are_sklearns(cache: Path) -> None:
    splits = load_splits(DataConfig())
    bunch = load_digits()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1079, 359, 359]
    assert splits.image_shape == (8, 8, 1)
    for row in (0, 100, 358):
        number = int(splits.val.ids[row].removeprefix("digits/"))
        assert splits.val.targets[row] == bunch.target[number]
        assert np.abs(splits.val.images[row, ..., 0] / 255 * 16 - bunch.images[number]).max() < 0.04
    assert not cache.exists()


def test_statistics_are_the_training_splits(photos: Path) -> None:
    splits = load_folder(photos)
    pixels = splits.train.images.reshape(-1, 3) / 255
    assert splits.mean == pytest.approx(pixels.mean(axis=0))
    assert splits.std == pytest.approx(pixels.std(axis=0))


def test_images_and_targets_belong_to_their_ids(photos: Path) -> None:
    splits = load_folder(photos)
    for part in (splits.train, splits.val, splits.test):
        for image, target, name in zip(part.images, part.targets, part.ids, strict=True):
            assert np.array_equal(image, np.asarray(Image.open(photos / name)))
            assert splits.classes[target] == name.split("/")[0]


@pytest.mark.parametrize("way", ["auto", "disk", "none"])
def test_every_way_gives_the_same(photos: Path, way: str, cache: Path) -> None:
    memory = load_folder(photos, cache="memory")
    assert not cache.exists()
    first, second = load_folder(photos, cache=way), load_folder(photos, cache=way)
    assert same(first, memory)
    assert same(second, memory)
    assert isinstance(first.train.images, LazyImages) == (way == "none")


def test_files_above_the_threshold_are_cached_under_auto(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_folder(photos)
    assert not cache.exists()
    monkeypatch.setattr(load, "SMALL_FILES", 1000)
    first = load_folder(photos)
    assert [path.name for path in cache.glob("*/images.npy")] == ["images.npy"]
    seen: list[str] = []
    second = load_splits(DataConfig(source=f"folder:{photos}"), progress=lambda what, *_: seen.append(what))
    assert same(first, second)
    assert not seen  # nothing listed, inspected or decoded


def test_the_cache_follows_the_files_and_the_config(photos: Path) -> None:
    first = load_folder(photos, cache="disk")
    Image.new("RGB", (12, 12)).save(photos / "ants" / "000.png")
    changed = load_folder(photos, cache="disk")
    assert changed.fingerprint != first.fingerprint
    assert load_folder(photos, cache="disk", image_size=8).image_shape == (8, 8, 3)
    assert load_folder(photos, cache="disk", split_seed=3).train.ids != changed.train.ids


def test_fingerprint_covers_split_targets_and_pixels_but_not_the_folders_place(photos: Path, tmp_path: Path) -> None:
    base = load_folder(photos).fingerprint
    shutil.copytree(photos, tmp_path / "copy")
    assert load_folder(tmp_path / "copy").fingerprint == base
    assert load_folder(photos, split_seed=1).fingerprint != base
    (tmp_path / "copy" / "ants").rename(tmp_path / "copy" / "wasps")
    assert load_folder(tmp_path / "copy").fingerprint != base


def test_progress_counts_up_to_the_whole(photos: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    load_splits(DataConfig(source=f"folder:{photos}"), progress=lambda *step: seen.append(step))
    assert seen == [("list files", 40, 40), ("inspect files", 40, 40), ("decode images", 40, 40)]


def test_truncated_files_are_found_while_decoding_and_named(photos: Path) -> None:
    path = photos / "bees" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    splits = load_folder(photos)
    assert [name for name, _ in splits.skipped] == ["bees/003.png"]
    assert "bees/003.png" not in splits.train.ids + splits.val.ids + splits.test.ids
    assert any("1 file(s) left out: bees/003.png (cannot decode" in notice for notice in splits.notices)


def test_exact_duplicates_across_splits_are_counted(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 10, "train/b": 10, "val/a": 4, "val/b": 4, "test/a": 4, "test/b": 4})
    shutil.copy(root / "train" / "a" / "001.png", root / "val" / "a" / "000.png")
    shutil.copy(root / "train" / "b" / "001.png", root / "test" / "b" / "000.png")
    shutil.copy(root / "train" / "b" / "002.png", root / "test" / "b" / "001.png")
    notices = load_folder(root).notices
    assert "exact duplicates: 1 val image(s) also occur in train" in notices
    assert "exact duplicates: 2 test image(s) also occur in train" in notices


def test_regression_from_a_manifest(photos: Path) -> None:
    lines = [f"{path.relative_to(photos).as_posix()},{number / 7}" for number, path in enumerate(sorted(photos.rglob("*.png")))]
    (photos / "list.csv").write_text("path,label\n" + "\n".join(lines))
    for way in ("memory", "disk"):
        splits = load_splits(DataConfig(source=f"csv:{photos / 'list.csv'}", task="regression", cache=way))
        assert splits.outputs == 1
        assert splits.train.targets.dtype == np.float64
        assert f"{splits.val.ids[0]},{splits.val.targets[0]}" in lines


def test_arrays_are_resized_and_cached_when_asked(cache: Path) -> None:
    splits = load_splits(DataConfig(image_size=12, channels=3, limit=100, cache="disk"))
    assert splits.image_shape == (12, 12, 3)
    assert len(splits.train) + len(splits.val) == 100
    assert len(list(cache.glob("*/images.npy"))) == 1


def test_a_full_disk_falls_back_to_memory_and_no_memory_to_decoding(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 100, 0))
    fallen = load_folder(photos, cache="disk")
    assert "MiB free): images are kept in memory" in fallen.notices[-1]
    assert isinstance(fallen.train.images, np.ndarray)
    monkeypatch.setattr(load, "_memory_bytes", lambda: 1000)
    lazy = load_folder(photos, cache="disk")
    assert "decoded each time they are used" in lazy.notices[-1]
    assert isinstance(lazy.train.images, LazyImages)
    assert same(lazy, fallen)


def test_a_cache_that_cannot_be_written_falls_back(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    splits = load_folder(photos, cache="disk", cache_dir=str(tmp_path / "file" / "below"))
    assert "cannot be written" in splits.notices[-1]
    assert load_folder(photos, cache="none", cache_dir=str(tmp_path / "file")).fingerprint == splits.fingerprint


def test_unknown_sources_list_the_known_ones() -> None:
    for source in ("nothing", "", "folder:", "PATH"):
        with pytest.raises(ValueError, match=r"data.source: got .*allowed: digits, folder:PATH, csv:PATH, cifar10"):
            load_splits(DataConfig(source=source))


def test_the_config_of_an_entry_leaves_out_only_what_changes_no_pixel() -> None:
    base = load._settings(DataConfig())
    for name in ("cache_dir", "download"):
        assert load._settings(dataclasses.replace(DataConfig(), **{name: "x"})) == base
    assert load._settings(DataConfig(limit=5)) != base
