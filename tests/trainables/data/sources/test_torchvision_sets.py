"""torchvision's file formats, written small here and read by torchvision too: the arrays must be the same."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from trainables.data.dataset import DataConfig
from trainables.data.load import load_splits
from trainables.data.sources import torchvision_sets
from trainables.data.sources.torchvision_sets import TORCHVISION_SETS, read_idx


def numbers(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def read(name: str, root: Path, **options: Any) -> Any:
    return torchvision_sets.read(DataConfig(source=name, root=str(root), **options))


def write_idx(path: Path, array: Any, *, zipped: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes() + array.tobytes()
    path.with_name(path.name + ".gz" if zipped else path.name).write_bytes(gzip.compress(content) if zipped else content)


def write_mnist(folder: Path, *, zipped: bool = False, stem: str = "", test: str = "t10k") -> None:
    for prefix, count in ((f"{stem}train", 40), (f"{stem}{test}", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", numbers(count, 28, 28), zipped=zipped)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10, zipped=zipped)


def write_cifar(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {"data": numbers(20, 3072) ^ np.uint8(number), "labels": [row % 10 for row in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


class UncheckedCIFAR10(datasets.CIFAR10):
    """torchvision's reader without its checksums."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        self.classes = []


def test_cifar_equals_torchvision_and_other_checksums_are_a_notice(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py")
    found = read("cifar10", tmp_path)
    theirs = [UncheckedCIFAR10(str(tmp_path), train=train) for train in (True, False)]
    assert np.array_equal(found.images, np.concatenate([part.data for part in theirs]))
    assert found.targets.tolist() == [*theirs[0].targets, *theirs[1].targets]
    assert found.given == ("train",) * 100 + ("test",) * 20
    assert found.classes[0] == "airplane"
    assert "data_batch_1" in found.notices[0]
    assert "differ from the published files" in found.notices[0]


def test_published_checksums_are_torchvisions() -> None:
    for name, files in torchvision_sets.PUBLISHED.items():
        builder = getattr(datasets, name)
        assert files == {file: digest for file, digest in builder.train_list + builder.test_list}


def test_a_cifar_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    write_cifar(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(ValueError, match=r"damaged \((posix|nt).mkdir is not allowed"):
        read("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_mnist_and_its_kin_equal_torchvision(name: str, tmp_path: Path) -> None:
    spec = TORCHVISION_SETS[name]
    write_mnist(tmp_path / spec.folder)
    found = read(name, tmp_path)
    theirs = [getattr(datasets, spec.builder)(str(tmp_path), train=train) for train in (True, False)]
    assert np.array_equal(found.images[..., 0], np.concatenate([part.data.numpy() for part in theirs]))
    assert found.targets.tolist() == [*theirs[0].targets.tolist(), *theirs[1].targets.tolist()]
    assert len(found.classes) == len(theirs[0].classes) == 10
    shutil.rmtree(tmp_path / spec.folder)
    write_mnist(tmp_path / spec.folder, zipped=True)
    assert np.array_equal(read(name, tmp_path).images, found.images)


def test_emnist_stands_upright(tmp_path: Path) -> None:
    write_mnist(tmp_path / "EMNIST" / "raw", stem="emnist-balanced-", test="test")
    found = read("emnist", tmp_path)
    theirs = datasets.EMNIST(str(tmp_path), split="balanced", train=True)
    assert np.array_equal(found.images[:40, ..., 0], theirs.data.numpy().transpose(0, 2, 1))
    assert found.classes == tuple(theirs.classes)


def test_stl10_equals_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split, count in (("train", 20), ("test", 10)):
        (folder / f"{split}_X.bin").write_bytes(numbers(count, 3, 96, 96).tobytes())
        (folder / f"{split}_y.bin").write_bytes((np.arange(count, dtype=np.uint8) % 10 + 1).tobytes())
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda _: True)
    theirs = datasets.STL10(str(tmp_path), split="train")
    found = read("stl10", tmp_path)
    assert np.array_equal(found.images[:20], theirs.data.transpose(0, 2, 3, 1))
    assert np.array_equal(found.targets[:20], theirs.labels)


def test_cifar100_reads_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 6), ("test", 4)):
        (folder / name).write_bytes(pickle.dumps({"data": numbers(count, 3072), "fine_labels": list(range(count))}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{n}" for n in range(100)]}))
    found = read("cifar100", tmp_path)
    assert found.targets.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert len(found.classes) == 100


def test_a_given_test_stays_whole_through_load_splits(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py")
    splits = load_splits(DataConfig(source="cifar10", root=str(tmp_path), limit=50, min_per_class=2))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [40, 10, 20]
    assert splits.image_shape == (32, 32, 3)


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_missing_files_say_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} is not complete in .*data.download: true"):
        read(name, tmp_path)
    with pytest.raises(ValueError, match="data.root"):
        torchvision_sets.read(DataConfig(source=name))


def test_damaged_and_unfit_requests_are_explained(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is damaged: 31355 bytes for shape"):
        read_idx(path)
    with pytest.raises(ValueError, match="mnist, which has classes; regression needs csv:PATH"):
        read("mnist", tmp_path, task="regression")


def test_downloads_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fake(root: str, *, download: bool, train: bool) -> None:
        asked.append((root, download, train))
        write_mnist(tmp_path / "MNIST" / "raw")

    monkeypatch.setattr(datasets, "MNIST", fake)
    with pytest.raises(ValueError, match="not complete"):
        read("mnist", tmp_path)
    assert not asked
    assert len(read("mnist", tmp_path, download=True)) == 60
    assert asked == [(str(tmp_path), True, True), (str(tmp_path), True, False)]
