"""torchvision's data sets by name from a `root` folder in torchvision's own layout; torchvision itself only downloads.

The files are read here: CIFAR pickles by an unpickler that knows arrays and nothing else (so that restored batches with other
checksums are safe to accept), MNIST's idx files also while still gzipped.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing, Progress, stat_signature

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class TorchvisionSet:
    """One data set: torchvision's class, its folder below root, the reader of (folder, split), class names, how to download."""

    builder: str
    folder: str
    read: Callable[[Path, str], Arrays]
    classes: tuple[str, ...] | Callable[[Path], tuple[str, ...]]
    options: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, text and numpy arrays; anything else that a pickle may call is refused."""

    _ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        | {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
        | {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickle(path: Path) -> dict[str, Any]:
    loaded = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    if not isinstance(loaded, dict):
        raise ValueError(f"data.root: {path} holds a {type(loaded).__name__}, not a CIFAR batch")
    return loaded


def _cifar(train_files: tuple[str, ...], test_files: tuple[str, ...], label_key: str) -> Callable[[Path, str], Arrays]:
    def read(folder: Path, split: str) -> Arrays:
        images, targets = [], []
        for name in train_files if split == "train" else test_files:
            batch = _unpickle(folder / name)
            images.append(_channels_last(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)))
            targets.append(np.asarray(batch[label_key], dtype=np.int64))
        return np.concatenate(images), np.concatenate(targets)

    return read


def _channels_last(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _cifar_classes(file: str, key: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda folder: tuple(_unpickle(folder / file)[key])


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file of bytes, plain or as `path` + ".gz"; raises ValueError when it is cut off."""
    raw = path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, dtype=">i4", count=dimensions, offset=4).astype(np.int64)
    data = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions)
    if raw[:3] != b"\0\0\x08" or len(data) != shape.prod():
        raise ValueError(f"data.root: {path} is damaged: {len(data)} bytes for shape {tuple(shape)}")
    return data.reshape(tuple(shape))


def _idx(stem: str = "", *, test: str = "t10k", transposed: bool = False) -> Callable[[Path, str], Arrays]:
    def read(folder: Path, split: str) -> Arrays:
        prefix = f"{stem}{'train' if split == 'train' else test}"
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte")
        images = np.ascontiguousarray(images.transpose(0, 2, 1)) if transposed else images
        return images[..., None], read_idx(folder / f"{prefix}-labels-idx1-ubyte").astype(np.int64)

    return read


def _svhn(folder: Path, split: str) -> Arrays:
    from torchvision.datasets import SVHN

    found = SVHN(str(folder), split=split)
    return _channels_last(found.data), np.asarray(found.labels, dtype=np.int64)


def _stl10(folder: Path, split: str) -> Arrays:
    pixels = np.fromfile(folder / f"{split}_X.bin", dtype=np.uint8).reshape(-1, 3, 96, 96)
    labels = np.fromfile(folder / f"{split}_y.bin", dtype=np.uint8).astype(np.int64) - 1
    return np.ascontiguousarray(pixels.transpose(0, 3, 2, 1)), labels


_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_EMNIST = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
_SPLIT_OPTIONS = ({"split": "train"}, {"split": "test"})
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

TORCHVISION_SETS: dict[str, TorchvisionSet] = {
    "cifar10": TorchvisionSet(
        "CIFAR10",
        "cifar-10-batches-py",
        _cifar(_BATCHES, ("test_batch",), "labels"),
        _cifar_classes("batches.meta", "label_names"),
    ),
    "cifar100": TorchvisionSet(
        "CIFAR100", "cifar-100-python", _cifar(("train",), ("test",), "fine_labels"), _cifar_classes("meta", "fine_label_names")
    ),
    "mnist": TorchvisionSet("MNIST", "MNIST/raw", _idx(), _DIGITS),
    "fashion_mnist": TorchvisionSet("FashionMNIST", "FashionMNIST/raw", _idx(), _FASHION),
    "kmnist": TorchvisionSet("KMNIST", "KMNIST/raw", _idx(), _KMNIST),
    "emnist": TorchvisionSet(
        "EMNIST", "EMNIST/raw", _idx("emnist-balanced-", test="test", transposed=True), _EMNIST,
        ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    ),
    "svhn": TorchvisionSet("SVHN", ".", _svhn, _DIGITS, _SPLIT_OPTIONS),
    "stl10": TorchvisionSet("STL10", "stl10_binary", _stl10, _STL10, _SPLIT_OPTIONS),
}  # fmt: skip
"""name -> how it is read; the one table of torchvision data sets."""

PUBLISHED: dict[str, dict[str, str]] = {
    "CIFAR10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "CIFAR100": {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
}
"""MD5 of the published files, as torchvision has them."""


def signature(config: DataConfig) -> str:
    """Return a text that changes with the data set's files (and is the same before and after a download found them there)."""
    folder = _folder(config)
    pattern = "*_32x32.mat" if config.source == "svhn" else "*"
    return f"{config.source}\n{stat_signature(folder.glob(pattern))}" if folder.is_dir() else config.source


def read(config: DataConfig, progress: Progress | None = None) -> Listing:
    """Read train and test as the data set gives them, downloading first when `data.download` asks for it."""
    if config.task != "classification":
        raise ValueError(f"data.task: got {config.task!r} with {config.source}, which has classes; regression needs csv:PATH")
    spec = TORCHVISION_SETS[config.source]
    folder = _folder(config)
    if config.download:
        for options in spec.options:
            _builder(spec)(config.root, download=True, **options)
    parts: dict[str, Arrays] = {}
    for done, split in enumerate(("train", "test"), start=1):
        parts[split] = _read_part(spec, folder, split, config)
        if progress:
            progress(f"read {config.source}", done, 2)
    return Listing(
        ids=tuple(f"{split}/{row:05d}" for split, (_, targets) in parts.items() for row in range(len(targets))),
        targets=np.concatenate([targets for _, targets in parts.values()]),
        given=tuple(split for split, (_, targets) in parts.items() for _ in targets),
        classes=spec.classes(folder) if callable(spec.classes) else spec.classes,
        images=np.concatenate([images for images, _ in parts.values()]),
        notices=_checksum_notices(spec, folder),
    )


def _folder(config: DataConfig) -> Path:
    if not config.root:
        raise ValueError(f"data.root: {config.source} needs the folder that holds (or shall hold) its files; it is empty")
    return Path(config.root).expanduser().absolute() / TORCHVISION_SETS[config.source].folder


def _builder(spec: TorchvisionSet) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, spec.builder)


def _read_part(spec: TorchvisionSet, folder: Path, split: str, config: DataConfig) -> Arrays:
    try:
        return spec.read(folder, split)
    except FileNotFoundError as fault:
        raise ValueError(_missing(config, folder, str(fault.filename))) from fault
    except (pickle.UnpicklingError, KeyError, IndexError, EOFError, gzip.BadGzipFile) as fault:
        raise ValueError(f"data.root: the {config.source} files in {folder} are damaged ({fault}); fetch them again") from fault
    except RuntimeError as fault:  # torchvision's own "not found or corrupted"
        raise ValueError(_missing(config, folder, str(fault))) from fault


def _missing(config: DataConfig, folder: Path, what: str) -> str:
    return f"data.root: {config.source} is not complete in {folder} ({what}); put its files there or set data.download: true"


def _checksum_notices(spec: TorchvisionSet, folder: Path) -> tuple[str, ...]:
    """Say which CIFAR files are not the published ones (they are read all the same)."""
    other = [
        name
        for name, published in PUBLISHED.get(spec.builder, {}).items()
        if hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() != published
    ]
    return (f"{spec.builder}: {', '.join(other)} differ from the published files (MD5); used as they are",) if other else ()
