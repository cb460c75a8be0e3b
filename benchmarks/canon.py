"""What practical deep learning for images claims, measured side by side: claim, value, interval, and whether it holds.

Run:  python benchmarks/canon.py                         (50,000 CIFAR-10 images and the photos; hours on two cores, for a GPU)
      python benchmarks/canon.py --images 10000 --seeds 2 --parts variants augmentation
      python benchmarks/canon.py --quick                 (a minute; the built-in digits, only to see that it runs)

Real data are looked for in ORCHESTRATE_DATA, or in shared/data beside this repository (see benchmarks/restore_data.py for the
layout); parts whose data are not there are skipped and say so. Results go to benchmarks/results/canon.{json,md,png}.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from canon_table import Measured, interval, write
from numpy.typing import NDArray
from restore_data import restore_cifar10

from trainables.augment import augment_batch, to_float
from trainables.config import TrainConfig
from trainables.contract import Trainable
from trainables.data import load_splits
from trainables.data.dataset import DataConfig, ImageSet, Splits
from trainables.data.loader import CANON, time_loader
from trainables.image_model import ImageModel
from trainables.inference import prepare
from trainables.light_classifier import LightClassifier
from trainables.loop import evaluate

Rows = dict[str, Measured]
Model = TypeVar("Model", bound=Trainable)
Correct = NDArray[np.float64]
"""1 where a model of a seed is right about an image, else 0: [seeds, images]."""
VAL = 2_000


class Bench:
    """The data, the scale and what is trained already."""

    def __init__(self, asked: argparse.Namespace, root: Path | None, scratch: Path) -> None:
        self.asked, self.root, self.scratch, self.quick = asked, root, scratch, asked.quick
        self._small: Splits | None = None
        self._photos: Splits | None = None
        self._trained: dict[TrainConfig, ImageModel] = {}

    @property
    def small(self) -> Splits:
        """CIFAR-10 with so many training images, 2,000 for validation and its whole test set (quick: the digits)."""
        if self._small is None:
            self._small = load_splits(DataConfig(limit=300) if self.quick else self._cifar())
        return self._small

    def _cifar(self) -> DataConfig:
        if self.root is None:
            raise FileNotFoundError("CIFAR-10 is not here")
        restore_cifar10(self.root / "cifar10", self.scratch)
        total = min(50_000, self.asked.images + VAL)
        return DataConfig(
            source="cifar10", root=str(self.scratch), limit=total, val_fraction=VAL / total, cache="memory",
            cache_dir=str(self.scratch / "cache"),
        )  # fmt: skip

    @property
    def photos(self) -> Splits:
        """The ants and bees: all of train to train on, all of val to judge by (nothing is chosen with it)."""
        if self._photos is None:
            if self.root is None:
                raise FileNotFoundError("the photos and the weights are not here")
            source = f"folder:{self.root / 'hymenoptera_data'}"
            found = load_splits(DataConfig(source=source, image_size=256, test_fraction=0.05, cache="memory"))
            parts = (found.train, found.test)
            train = ImageSet(
                np.concatenate([part.images for part in parts]), np.concatenate([part.targets for part in parts]),
                tuple(name for part in parts for name in part.ids),
            )  # fmt: skip
            rows = np.arange(0, len(train), 12 if self.quick else 1)
            self._photos = dataclasses.replace(found, train=train.take(rows), test=found.val)
        return self._photos

    def scratch_config(self, seed: int, **values: object) -> TrainConfig:
        """Exercise 2: Adam 1e-3, batch 256, a constant rate."""
        known = {"optimizer": "adam", "lr": 1e-3, "batch_size": 256, "epochs": self.asked.epochs, "schedule": "constant"}
        return TrainConfig.from_dict({"model": "cnn_c", **known, "seed": seed, "eval_batch_size": 500, **values})

    def photo_config(self, seed: int, **values: object) -> TrainConfig:
        """Exercise 5: the pretrained MobileNetV2, head only, Adam 1e-3, batch 64, 224 px, 5 epochs."""
        weights = str((self.root or Path()) / "weights" / "mobilenet_v2-imagenet-from-int8.pth")
        known = {
            "model": "mobilenet_v2",
            "weights": weights,
            "optimizer": "adam",
            "lr": 1e-3,
            "batch_size": 64,
            "dropout": 0.2,
            "eval_batch_size": 64,
        }
        more = {"epochs": 1, "image_size": 64} if self.quick else {"epochs": 5}
        return TrainConfig.from_dict(
            {**known, **more, "finetune_depth": "head", "schedule": "constant", "seed": seed, **values}
        )

    def trained(self, config: TrainConfig, splits: Splits) -> ImageModel:
        """Return a model trained to its end (once)."""
        if config not in self._trained:
            self._trained[config] = finish(ImageModel(config, splits))
        return self._trained[config]

    def correct(self, configs: list[TrainConfig], splits: Splits, split: str = "test") -> Correct:
        """Return which images of a split each of the trained configurations gets right."""
        return np.stack([hits(self.trained(config, splits).predict(split), splits.part(split)) for config in configs])

    def measured(self, scores: Correct, started: float, note: str) -> Measured:
        """Return mean and interval of correctness, or of paired differences of it."""
        return Measured(*interval(scores), scores.shape[1], scores.shape[0], time.perf_counter() - started, note)

    @property
    def seeds(self) -> range:
        return range(self.asked.seeds)


def finish(model: Model) -> Model:
    """Train a model to its end."""
    while not model.step().done:
        pass
    return model


def hits(probabilities: NDArray[np.float32], part: ImageSet) -> Correct:
    """Return 1 where the likeliest class is the true one."""
    return (probabilities.argmax(axis=1) == part.targets).astype(np.float64)


def variants(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Exercise 2: the nets A, B, C for the same epochs."""
    started, found, gaps = time.perf_counter(), {}, {}
    for name in "abc":
        configs = [bench.scratch_config(seed, model=f"cnn_{name}") for seed in bench.seeds]
        found[name] = bench.correct(configs, bench.small)
        train = bench.correct(configs, bench.small, "train").mean(axis=1, keepdims=True)
        gaps[name] = train - found[name]
    note = bench_note(bench)
    yield "a_accuracy", bench.measured(found["a"], started, note)
    yield "a_gap", bench.measured(gaps["a"], started, note)
    yield "b_over_a", bench.measured(found["b"] - found["a"], started, note)
    yield "c_over_a", bench.measured(found["c"] - found["a"], started, note)
    yield "c_gap", bench.measured(gaps["c"] - gaps["a"], started, note)


def augmentation(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """The same net and epochs with flips and reflected crops."""
    started = time.perf_counter()
    plain, more = (
        bench.correct([bench.scratch_config(seed, augmentation=name) for seed in bench.seeds], bench.small)
        for name in ("none", "crop_flip")
    )
    yield "augmentation", bench.measured(more - plain, started, bench_note(bench))


def schedule(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Exercise 4: a constant rate against cosine annealing."""
    started, epochs = time.perf_counter(), 3 * bench.asked.epochs
    pairs = [
        [bench.scratch_config(seed, schedule=name, epochs=epochs, augmentation="crop_flip") for seed in bench.seeds]
        for name in ("constant", "cosine")
    ]
    constant, cosine = (bench.correct(configs, bench.small) for configs in pairs)
    note = f"{bench_note(bench, epochs)}, crop + flip"
    yield "schedule", bench.measured(cosine - constant, started, note)
    first, second = (
        np.stack([losses(bench.trained(c, bench.small).predict("val"), bench.small.val) for c in configs]) for configs in pairs
    )
    mean, low, high = interval(second - first, scale=1.0)
    yield "schedule_loss", Measured(mean, low, high, first.shape[1], len(first), time.perf_counter() - started, note)


def losses(probabilities: NDArray[np.float32], part: ImageSet) -> Correct:
    """Return the cross-entropy of each image."""
    return -np.log(np.maximum(probabilities[np.arange(len(part)), part.targets], 1e-7).astype(np.float64))


def levers(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Pipeline, BatchNorm + dropout, augmentation and schedule together, on a wider C."""
    started, epochs = time.perf_counter(), 3 * bench.asked.epochs
    settings = {"augmentation": "crop_flip", "schedule": "cosine", "width": 32, "epochs": epochs, "weight_decay": 5e-4}
    scores = bench.correct([bench.scratch_config(seed, optimizer="adamw", **settings) for seed in bench.seeds], bench.small)
    yield "levers", bench.measured(scores, started, f"{bench_note(bench, epochs)}, width 32")


def transfer(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Exercises 5 and 6: head only, everything at 1e-4, differential rates; and the same epochs ten times from scratch."""
    started, photos = time.perf_counter(), bench.photos
    note = f"MobileNetV2, {len(photos.train)} photos, {bench.photo_config(0).epochs} epochs"
    head = bench.correct([bench.photo_config(seed) for seed in bench.seeds], photos)
    yield "head_only", bench.measured(head, started, note)
    full = bench.correct([bench.photo_config(seed, finetune_depth="all", lr=1e-4) for seed in bench.seeds], photos)
    yield "full", bench.measured(full - head, started, note)
    rates = {"finetune_depth": "all", "lr": 1e-3, "layer_decay": 0.4}
    differential = bench.correct([bench.photo_config(seed, **rates) for seed in bench.seeds], photos)
    yield "differential", bench.measured(differential - full, started, f"{note}; rates 1e-3 (head) to 1e-5 (stem)")
    epochs = 10 * bench.photo_config(0).epochs
    small = {"model": "cnn_c", "image_size": 64, "epochs": epochs, "augmentation": "crop_flip", "batch_size": 64}
    scratch = bench.correct([bench.scratch_config(seed, **small) for seed in bench.seeds], photos)
    yield "scratch", bench.measured(scratch - head, started, f"variant C at 64 px, {epochs} epochs; {note}")


def svm(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """A linear SVM on frozen features against the trained head; cached augmented views against fresh draws."""
    started, photos = time.perf_counter(), bench.photos
    head = bench.correct([bench.photo_config(seed) for seed in bench.seeds], photos)
    light = LightClassifier(bench.photo_config(0, epochs=2), photos)  # the second one is a linear SVM
    fitted = hits(finish(light).predict("test"), photos.test)
    yield "svm", bench.measured(fitted - head, started, f"MobileNetV2, {len(photos.train)} photos, C = 0.01")
    epochs = 2 if bench.quick else 12
    settings = [bench.photo_config(seed, augmentation="crop_flip", epochs=epochs) for seed in bench.seeds]
    cached = bench.correct(settings, photos)
    fresh = np.stack([hits(finish(without_cache(config, photos)).predict("test"), photos.test) for config in settings])
    yield "views", bench.measured(cached - fresh, started, f"crop + flip, head only, {epochs} epochs")


def without_cache(config: TrainConfig, splits: Splits) -> ImageModel:
    """Return a model that computes its frozen part at every step."""
    model = ImageModel(config, splits)
    model.features = None
    return model


class Drifting(ImageModel):
    """The pitfall: a frozen backbone whose BatchNorm statistics move, since `train()` reaches them."""

    def begin_epoch(self) -> None:
        self.features = None
        super().begin_epoch()
        for module in self.model.modules():
            module.__dict__.pop("train", None)
        self.model.train()


def modes(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Exercise 7: what each mode pitfall costs."""
    started, note = time.perf_counter(), bench_note(bench)
    models = [bench.trained(bench.scratch_config(seed), bench.small) for seed in bench.seeds]
    right = np.stack([hits(model.predict("test"), bench.small.test) for model in models])
    yield "no_eval", bench.measured(right - _each(models, one_class_batches), started, f"C, {note}")
    yield "test_flips", bench.measured(right - _each(models, with_flips), started, f"C trained without flips, {note}")
    if bench.root is None:
        return
    photos = bench.photos
    configs = [bench.photo_config(seed, batch_size=4) for seed in bench.seeds]
    held = bench.correct(configs, photos)
    drifted = np.stack([hits(finish(Drifting(config, photos)).predict("test"), photos.test) for config in configs])
    yield "bn_drift", bench.measured(held - drifted, started, "MobileNetV2, head only, batches of 4")
    heads = [bench.trained(bench.photo_config(seed), photos) for seed in bench.seeds]
    raw = np.stack([hits(unnormalised(model), photos.test) for model in heads])
    usual = bench.correct([bench.photo_config(seed) for seed in bench.seeds], photos)
    yield "wrong_statistics", bench.measured(usual - raw, started, "MobileNetV2 given pixels in [0, 1]")


def _each(models: list[ImageModel], answer: Callable[[ImageModel], Correct]) -> Correct:
    return np.stack([answer(model) for model in models])


def one_class_batches(model: ImageModel) -> Correct:
    """Return which test images are right when nobody called eval() and each batch holds one class."""
    part, network = model.splits.test, copy.deepcopy(model.model).train()
    found = np.zeros(len(part))
    for kind in np.unique(part.targets):
        for rows in np.array_split(np.flatnonzero(part.targets == kind), max(1, int((part.targets == kind).sum()) // 100)):
            with torch.no_grad():
                outputs = network(prepare(to_float(torch.from_numpy(part.images[rows])), model.pipeline))
            found[rows] = outputs.argmax(dim=1).numpy() == kind
    return found


def with_flips(model: ImageModel) -> Correct:
    """Return which test images are right when each is mirrored with probability one half."""
    part, network = model.splits.test, model.model
    chunks = torch.split(torch.arange(len(part)), 500)
    batches = (
        augment_batch(torch.from_numpy(part.images[rows.numpy()]), name="flip", seed=0, epoch=0, sample_index=rows)
        for rows in chunks
    )
    return hits(evaluate(network, (prepare(batch, model.pipeline) for batch in batches)), part)


def unnormalised(model: ImageModel) -> NDArray[np.float32]:
    """Return the answers for test images that are not normalised."""
    served, part = model.inference(), model.splits.test
    channels = len(model.pipeline.mean)
    served.pipeline = dataclasses.replace(model.pipeline, mean=(0.0,) * channels, std=(1.0,) * channels)
    return evaluate(served, (torch.from_numpy(part.images[rows]) for rows in np.array_split(np.arange(len(part)), 8)))


def loader(bench: Bench) -> Iterator[tuple[str, Measured]]:
    """Exercise 1: the four loader configurations on photos decoded each time, and on decoded small images."""
    if bench.root is not None:
        source = f"folder:{bench.root / 'hymenoptera_data'}"
        lazy = load_splits(DataConfig(source=source, image_size=224, cache="none", cache_dir=str(bench.scratch / "lazy")))
        yield "loader_photos", four(lazy.train, repeats=1 if bench.quick else 3)
    yield "loader_pixels", four(bench.small.train, repeats=1 if bench.quick else 3)


def four(part: ImageSet, *, repeats: int) -> Measured:
    """Time the four configurations in turn, and return how much faster the fastest is than no workers."""
    started, device = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        times = np.array([
            [time_loader(part, settings, batch_size=64, device=device).seconds for settings in CANON.values()]
            for _ in range(repeats)
        ])  # fmt: skip
    ratios = times[:, 0] / times.min(axis=1)
    seconds = ", ".join(f"{name}: {value:.2f} s" for name, value in zip(CANON, np.median(times, axis=0), strict=True))
    return Measured(
        float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(part), repeats, time.perf_counter() - started,
        f"an epoch takes {seconds} ({device}; interval: range of the repeats)",
    )  # fmt: skip


def bench_note(bench: Bench, epochs: int = 0) -> str:
    """Return the conditions of the small-image rows."""
    name = "the digits" if bench.quick else "CIFAR-10"
    return f"{len(bench.small.train):,} training images of {name}, {epochs or bench.asked.epochs} epochs"


PARTS: dict[str, Callable[[Bench], Iterator[tuple[str, Measured]]]] = {
    "variants": variants, "augmentation": augmentation, "schedule": schedule, "levers": levers, "transfer": transfer,
    "svm": svm, "modes": modes, "loader": loader,
}  # fmt: skip


def data_root(given: str | None) -> Path | None:
    """Return the folder of real data, or None."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(given or os.environ.get("ORCHESTRATE_DATA", beside))
    return root if (root / "weights").is_dir() else None


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits and a few photos, one epoch, one seed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=48_000, help="training images of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=10, help="of exercise 2; exercise 4 takes three times as many")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", help="folder of real data")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results; --quick: thrown away)")
    asked = parser.parse_args()
    if asked.quick:
        asked.epochs, asked.seeds, asked.images = 1, 1, 300
    return asked


def main() -> None:
    """Measures the parts asked for and writes the table after each."""
    asked = arguments()
    sizes = f"--images {asked.images} --epochs {asked.epochs} --seeds {asked.seeds} --parts {' '.join(asked.parts)}"
    facts = {
        "command": f"python benchmarks/canon.py {'--quick' if asked.quick else sizes}", "images": asked.images,
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "versions": f"torch {torch.__version__}, Python {platform.python_version()}",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        bench = Bench(asked, data_root(asked.data), Path(scratch))
        out = asked.out or (Path(scratch) if asked.quick else Path(__file__).parent / "results")
        for part in asked.parts:
            try:
                for key, found in PARTS[part](bench):
                    print(f"{part}: {key} {found.value:.2f} ({found.low:.2f} to {found.high:.2f})", found.note, flush=True)
                    write(out, {key: dataclasses.replace(found, command=facts["command"])}, facts)
            except FileNotFoundError as missing:
                print(f"{part}: skipped, {missing} (set ORCHESTRATE_DATA)", flush=True)


if __name__ == "__main__":
    main()
