"""Batches made for many trials at once equal, bit for bit, those made one by one in the plainest way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_splits import random_splits

from trainables import batches
from trainables.augment import AUGMENTATIONS, augment_batch
from trainables.batches import Request, make_batches, ready
from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.feed import ImageFeed
from trainables.image_model import ImageModel
from trainables.loop import Batch
from trainables.mixing import mix_batch
from trainables.runtime import memory_format, parameter_dtype

CLASSES = ("a", "b", "c")
BASE = TrainConfig(model="cnn_c", width=4, batch_size=7, device="cpu")
OWN = f"{__name__}:darker"
KNOBS: dict[str, list[Any]] = {
    "augmentation": [*AUGMENTATIONS, "crop_flip+geometric", OWN],
    "magnitude": [0.0, 0.7, 1.0],
    "mixup": [0.0, 0.4],
    "cutmix": [0.0, 1.0],
    "sampler": ["shuffle", "balanced"],
    "rows": ["all", "bootstrap"],
    "class_weights": ["none", "balanced"],
    "memory_format": ["contiguous", "channels_last"],
}


def darker(*, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    return image // (1 + seed % 3)


def plainly(request: Request) -> Iterator[Batch]:
    """Make batches with one number for a batch's seed and epoch, each gathered, augmented, mixed and normalised for itself."""
    source, config, portion = request.source, request.source.config, request.source.portion
    dtype = parameter_dtype(config.precision)
    orders = (order.tensor_split(portion.steps) for order in portion.order(request.epoch))
    for chosen, named in zip(*orders, strict=True):
        draws = {"seed": config.seed, "epoch": request.epoch, "sample_index": named}
        stored = torch.from_numpy(np.asarray(source.feed.images[portion.rows[chosen.numpy()]]))
        images = augment_batch(stored, name=config.augmentation, magnitude=config.magnitude, dtype=dtype, **draws)
        targets = portion.aims[chosen]
        if request.mixed and (config.mixup or config.cutmix):
            mixed = {"classes": source.classes, "mixup": config.mixup, "cutmix": config.cutmix}
            images, targets = mix_batch(images, targets, **mixed, **draws)
        yield Batch(ready(images, source.pipeline, request.layout), targets, portion.labels[chosen])


def equal(found: Batch, wanted: Batch) -> bool:
    pairs = [(getattr(found, field.name), getattr(wanted, field.name)) for field in dataclasses.fields(Batch)]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def check(requests: list[Request]) -> int:
    """Compare every batch and return how many steps there were."""
    alone = [list(plainly(request)) for request in requests]
    steps = 0
    for number, found in enumerate(make_batches(requests)):
        for batch, request, wanted in zip(found, requests, alone, strict=True):
            assert equal(batch, wanted[number]), request.source.config
            assert batch.images.is_contiguous(memory_format=request.layout)
        steps += 1
    assert all(len(wanted) == steps for wanted in alone)
    return steps


@pytest.fixture(scope="module")
def colour() -> Splits:
    return random_splits(40, 6, CLASSES)


@pytest.fixture(scope="module")
def grey(colour: Splits) -> Splits:
    part = dataclasses.replace(colour.train, images=colour.train.images[..., :1])
    return dataclasses.replace(colour, train=part, mean=(0.5,), std=(0.25,))


def draw(rng: np.random.Generator, splits: Splits, precision: str, size: int) -> Request:
    """Return a trial's request, each knob at a random one of its values (the first one half of the times)."""
    knobs = {name: values[0] if rng.random() < 0.5 else values[rng.integers(len(values))] for name, values in KNOBS.items()}
    seed = int(rng.integers(1000))
    model = ImageModel(BASE.replace(seed=seed, row_seed=seed, precision=precision, batch_size=size, **knobs), splits)
    layout = memory_format(model.config)
    return Request(model.source, int(rng.integers(3)), mixed=bool(rng.random() < 0.9), layout=layout)


@pytest.mark.parametrize("seed", range(12))
def test_random_trials_together_get_what_each_gets_alone(
    colour: Splits, grey: Splits, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    splits, precision, size = (colour, grey)[seed % 2], ("fp32", "fp64")[seed // 2 % 2], int(rng.integers(1, 12))
    requests = [draw(rng, splits, precision, size) for _ in range(9)]
    for limit in (1, int(rng.integers(1, 20_000)), 1 << 30):
        monkeypatch.setitem(batches.AT_ONCE, "cpu", limit)
        check(requests)


@pytest.mark.parametrize("name", [*AUGMENTATIONS, OWN])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_trials_of_one_set_get_what_each_gets_alone(colour: Splits, name: str, precision: str) -> None:
    changes = {"augmentation": name, "mixup": 0.4, "cutmix": 1.0, "precision": precision}
    models = [ImageModel(BASE.replace(seed=seed, rows="bootstrap", row_seed=seed, **changes), colour) for seed in range(3)]
    assert check([Request(model.source, epoch) for epoch, model in enumerate(models)]) == 6


@pytest.mark.parametrize("stored", [20, 13])
def test_images_that_are_resized_on_their_way_too(stored: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, stored, stored, 3), dtype=np.uint8)
    part = ImageSet(images, np.arange(30) % 3, tuple(map(str, range(30))))
    splits = Splits(part, part, part, CLASSES, "f", (0.5,) * 3, (0.25,) * 3)
    config = BASE.replace(augmentation="crop_flip_colour", image_size=16)
    assert check([Request(ImageModel(config.replace(seed=seed), splits).source, 0) for seed in range(4)]) == 5


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_values_and_the_answers_of_a_teacher_are_picked_and_mixed_alike(colour: Splits, tmp_path: Path, mixup: float) -> None:
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).dirichlet([1.0] * 3, 40).astype(np.float32))
    taught = BASE.replace(teacher_file=str(tmp_path / "teacher.npy"), mixup=mixup, rows="bootstrap")
    check([Request(ImageModel(c.replace(seed=s), colour).source, s) for s in range(3) for c in (taught, BASE)])
    part = dataclasses.replace(colour.train, targets=np.linspace(3.0, 9.0, 40))
    values = dataclasses.replace(colour, train=part, classes=())
    config = BASE.replace(task="regression", mixup=mixup, rows="bootstrap")
    check([Request(ImageModel(config.replace(seed=s, row_seed=s), values).source, s) for s in range(3)])


def test_alike_trials_share_blocks_of_bounded_size(colour: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 px, 3 channels, 4 batches of 10 rows: 1920 values a batch; blocks hold several steps, then slots, then one batch."""
    asked = list[int]()

    def counted(images: torch.Tensor, **more: Any) -> torch.Tensor:
        asked.append(len(images))
        return augment_batch(images, **more)

    monkeypatch.setattr(batches, "augment_batch", counted)
    config = BASE.replace(augmentation="crop_flip", batch_size=10)
    requests = [Request(ImageModel(config.replace(seed=seed), colour).source, 0) for seed in range(3)]
    for limit, sizes in {
        1 << 30: [120],
        2 * 3 * 1920: [60, 60],
        3 * 1920: [30] * 4,
        2 * 1920: [20] * 6,  # two slots a step, and two steps of the third
        1: [10] * 12,
    }.items():
        asked.clear()
        monkeypatch.setitem(batches.AT_ONCE, "cpu", limit)
        assert len(list(make_batches(requests))) == 4
        assert sorted(asked) == sorted(sizes)


@pytest.mark.parametrize("name", ["randaugment", "blur_noise", OWN])
def test_what_cannot_be_shared_bit_for_bit_is_made_one_by_one(colour: Splits, name: str) -> None:
    assert Request(ImageModel(BASE.replace(augmentation=name), colour).source, 0).kind() is None
    assert Request(ImageModel(BASE.replace(augmentation="crop_flip_colour"), colour).source, 0).kind() is not None


def test_images_that_are_decoded_when_asked_for_come_batch_by_batch(colour: Splits) -> None:
    class Lazy:
        shape = colour.train.images.shape
        asked: list[int] = []  # noqa: RUF012

        def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
            self.asked.append(len(rows))
            return colour.train.images[rows]

    model = ImageModel(BASE, colour)
    feed = ImageFeed(Lazy(), torch.device("cpu"))  # type: ignore[arg-type]
    request = Request(dataclasses.replace(model.source, feed=feed, stream=feed.stream), 0)
    assert request.kind() is None
    stream = make_batches([request, Request(model.source, 0)])
    for number, (decoded, held) in enumerate(stream):
        assert len(Lazy.asked) == number + 1
        assert equal(decoded, held)


def test_another_layout_is_another_order_in_memory_alone(colour: Splits) -> None:
    source = ImageModel(BASE.replace(memory_format="channels_last"), colour).source
    requests = [Request(source, 0, layout=layout) for layout in (torch.contiguous_format, torch.channels_last)]
    for plain, other in make_batches(requests):
        assert torch.equal(plain.images, other.images)
        assert plain.images.stride() != other.images.stride()
