"""A trial on cached features trains as it would on images, shares them with others, and falls back where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables import feature_feed, image_model
from trainables.augment import augment_batch
from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.feature_feed import VIEWS, needs_images
from trainables.image_model import ImageModel
from trainables.slots.pool import pool_key, trains_alone


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "orchestrate" / "features"


def part(count: int, seed: int) -> ImageSet:
    images = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return ImageSet(images, np.arange(count) % 3, tuple(f"{seed}-{i}" for i in range(count)))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(part(40, 0), part(18, 1), part(12, 2), ("a", "b", "c"), "f", (0.5,) * 3, (0.3,) * 3)


def config(**values: Any) -> TrainConfig:
    known = {"model": "cifar_resnet", "width": 4, "depth": 8, "dropout": 0.0, "epochs": 3, "batch_size": 16, "device": "cpu"}
    return TrainConfig.from_dict({**known, "finetune_depth": "head", "lr": 0.01, **values})


def train(settings: TrainConfig, splits: Splits) -> tuple[ImageModel, list[dict[str, float]]]:
    model = ImageModel(settings, splits)
    return model, [model.step().metrics for _ in range(settings.epochs)]


def on_images(
    settings: TrainConfig, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> tuple[ImageModel, list[dict[str, float]]]:
    with monkeypatch.context() as patched:
        patched.setattr(image_model, "open_features", lambda *_, **__: None)
        return train(settings, splits)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"finetune_depth": "last_1", "bn": "train", "optimizer": "sgd", "schedule": "onecycle"},
        {"finetune_depth": "last_1", "bn": "recalibrate", "memory_format": "channels_last"},
        {"finetune_depth": "last_1", "gradual_epochs": 1, "layer_decay": 0.5, "epochs": 4},
        {"dropout": 0.5, "average": "ema", "rows": "bootstrap", "sampler": "balanced"},
        {"average": "swa", "swa_start": 0.3, "tta": "flip", "label_smoothing": 0.1},
        {"augmentation": "crop_flip", "magnitude": 0.0},
    ],
    ids=["head", "last_1", "recalibrated", "gradual", "ema_bootstrap", "swa_tta", "magnitude_0"],
)  # fmt: skip
def test_cached_equals_uncached_in_fp32(splits: Splits, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(**values)
    cached, found = train(settings, splits)
    plain, wanted = on_images(settings, splits, monkeypatch)
    assert cached.features
    assert not plain.features
    for name, value in plain.weights().items():
        torch.testing.assert_close(cached.weights()[name], value, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(cached.predict("val"), plain.predict("val"), atol=1e-5)
    np.testing.assert_allclose(cached.predict("test"), plain.predict("test"), atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        assert set(one) == set(other)
        assert one["val/loss"] == pytest.approx(other["val/loss"], abs=1e-5)
        assert one["train/loss"] == pytest.approx(other["train/loss"], abs=1e-5)


def test_half_precision_is_close(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(precision="bf16")
    cached, _ = train(settings, splits)
    plain, _ = on_images(settings, splits, monkeypatch)
    np.testing.assert_allclose(cached.predict("val"), plain.predict("val"), atol=0.02)


class Forwards:
    """Counts the images that go through a model's stem."""

    def __init__(self, model: ImageModel) -> None:
        self.images = 0
        model.model.get_submodule("stem").register_forward_hook(self._note)

    def _note(self, *given: Any) -> None:
        self.images += len(given[1][0])


def test_a_second_trial_computes_no_frozen_activation(splits: Splits, cache: Path) -> None:
    first = ImageModel(config(), splits)
    seen = Forwards(first)
    first.step()
    assert seen.images == len(splits.train) + len(splits.val)
    first.step()
    second = ImageModel(config(lr=0.1, batch_size=8, rows="bootstrap"), splits)
    other = Forwards(second)
    second.step()
    assert (seen.images, other.images) == (len(splits.train) + len(splits.val), 0)
    assert len(list(cache.glob("*.npy"))) == 2


def test_views_are_augmented_computed_when_wanted_and_all_seen_each_round(splits: Splits) -> None:
    model = ImageModel(config(augmentation="crop_flip", epochs=2 * VIEWS), splits)
    assert model.features
    seen = Forwards(model)
    counts = []
    for _ in range(model.config.epochs):
        model.step()
        counts.append(seen.images)
    views = [model.features.view(epoch) for epoch in range(2 * VIEWS)]
    assert sorted(views[:VIEWS]) == sorted(views[VIEWS:]) == list(range(VIEWS))
    val, train_rows = len(splits.val), len(splits.train)
    assert counts == [val + train_rows * min(epoch + 1, VIEWS) for epoch in range(2 * VIEWS)]
    images = torch.from_numpy(splits.train.images)
    for epoch in (0, 1):
        augmented = augment_batch(images, name="crop_flip", seed=0, epoch=views[epoch], sample_index=torch.arange(len(images)))
        wanted = model.features.cut.prefix(model.ready(augmented))
        order, known = torch.arange(len(images)), model.portion.labels
        (batch,) = model.features.batches(epoch, [order], rows=order.numpy(), labels=known, aims=known)
        torch.testing.assert_close(batch.images, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(batch.labels, known)


def test_seeds_see_the_views_in_other_orders(splits: Splits) -> None:
    orders = set()
    for seed in range(6):
        features = ImageModel(config(augmentation="flip", seed=seed), splits).features
        assert features
        orders.add(tuple(features.view(epoch) for epoch in range(VIEWS)))
    assert len(orders) > 1


@pytest.mark.parametrize("values", [{}, {"augmentation": "crop_flip", "average": "ema"}], ids=["plain", "augmented"])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(splits: Splits, values: dict[str, Any]) -> None:
    settings = config(**values)
    whole, _ = train(settings, splits)
    first = ImageModel(settings, splits)
    first.step()
    second = ImageModel(settings, splits)
    second.load_state(first.state())
    assert np.array_equal(second.predict("val"), first.predict("val"))
    for _ in range(settings.epochs - 1):
        second.step()
    assert all(torch.equal(value, second.weights()[name]) for name, value in whole.weights().items())
    assert np.array_equal(whole.predict("val"), second.predict("val"))


def test_loading_a_state_with_other_frozen_weights_computes_their_features(splits: Splits) -> None:
    one, other = (ImageModel(config(seed=seed), splits) for seed in (0, 1))
    one.step()
    other.step()
    one.load_state(other.state())
    module = one.inference()
    with torch.inference_mode():
        live: Tensor = module.eval()(torch.from_numpy(splits.val.images))
    np.testing.assert_allclose(one.predict("val"), live.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"finetune_depth": "all"}, "nothing stays frozen"),
        ({"mixup": 0.2}, "mix images before the backbone"),
        ({"cutmix": 1.0}, "mix images before the backbone"),
        ({"augmentation": "mine:transform"}, "own transform"),
        ({"precision": "fp64"}, "16 or 32 bits"),
        ({"compile": "on"}, "compiled"),
    ],
)
def test_what_has_to_see_images_says_why(values: dict[str, Any], said: str) -> None:
    assert said in needs_images(config(**values))
    assert needs_images(config()) == needs_images(config(compile="auto")) == ""


def test_features_larger_than_the_images_are_not_cached(splits: Splits) -> None:
    model = ImageModel(config(finetune_depth="last_3"), splits)  # only the stem is frozen: 4 maps of 16 x 16 for 3 channels
    assert model.features is None
    model.step()


def test_without_room_or_a_disk_that_takes_it_the_trial_goes_on_with_images(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(feature_feed, "MEMORY_SHARE", 0.0)
        assert ImageModel(config(), splits).features is None
    with monkeypatch.context() as patched:
        patched.setattr(feature_feed, "DISK_SHARE", 0.0)
        assert ImageModel(config(), splits).features is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in it
    model = ImageModel(config(), splits)
    assert model.features
    assert model.step().epoch == 1
    assert model.features is None


def test_the_longest_unused_files_go_when_the_room_is_used_up(tmp_path: Path) -> None:
    import os

    files = [tmp_path / f"features-{name}.npy" for name in "abc"]
    for age, file in enumerate(files):
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    feature_feed._keep(files[2], budget=250)
    assert [file.exists() for file in files] == [True, False, True]
    feature_feed._keep(files[2], budget=0)
    assert [file.exists() for file in files] == [False, False, True]


def test_features_lie_beside_the_decoded_images(tmp_path: Path, splits: Splits) -> None:
    import dataclasses

    from trainables.data.cache import FACTS, IMAGES

    entry = tmp_path / "elsewhere" / "key"
    entry.mkdir(parents=True)
    np.save(entry / IMAGES, splits.train.images)
    (entry / FACTS).write_text("{}")
    mapped = np.load(entry / IMAGES, mmap_mode="r").view(np.ndarray)[2:]
    moved = ImageSet(mapped, splits.train.targets[2:], splits.train.ids[2:])
    features = ImageModel(config(), dataclasses.replace(splits, train=moved)).features
    assert features
    assert features.folder == tmp_path / "elsewhere" / "features"


def test_slots_leave_such_trials_alone(splits: Splits) -> None:
    cached, plain = ImageModel(config(), splits), ImageModel(config(mixup=0.2), splits)
    assert "cached features" in trains_alone(cached)
    assert not trains_alone(plain)
    assert pool_key(cached) != pool_key(plain)
