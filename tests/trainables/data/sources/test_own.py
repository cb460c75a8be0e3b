"""Own data by module:callable: arrays, ids, finished splits, and what is refused."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trainables.data.dataset import DataConfig
from trainables.data.load import load_splits

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


@pytest.fixture(autouse=True)
def module() -> Iterator[types.ModuleType]:
    """Put an importable module of makers in place."""
    made = types.ModuleType("own_data_for_test")
    made.pair = lambda: (IMAGES, LABELS)  # type: ignore[attr-defined]
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def load(name: str, **options: Any) -> Any:
    return load_splits(DataConfig(source=f"own_data_for_test:{name}", **options))


def test_arrays_become_splits() -> None:
    splits = load("pair")
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [36, 12, 12]
    assert splits.classes == ("0", "1", "2")
    row = int(splits.val.ids[0].removeprefix("row/"))
    assert np.array_equal(splits.val.images[0], IMAGES[row])
    assert splits.val.targets[0] == LABELS[row]


def test_names_ids_grey_images_and_measurements(module: Any) -> None:
    module.named = lambda: (
        IMAGES[..., 0],
        [["cat", "dog", "owl"][label] for label in LABELS],
        [f"n{row}" for row in range(60)],
    )
    splits = load("named")
    assert splits.classes == ("cat", "dog", "owl")
    assert splits.image_shape == (6, 6, 1)
    assert set(splits.train.ids) <= {f"n{row}" for row in range(60)}
    module.measured = lambda: (IMAGES, np.linspace(0, 1, 60))
    values = load("measured", task="regression")
    assert values.classes == ()
    assert values.train.targets.dtype == np.float64


def test_finished_splits_pass_through(module: Any) -> None:
    ready = load("pair")
    module.ready = lambda: ready
    assert load("ready") is ready


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "returned int, expected"),
        ((IMAGES.astype(float), LABELS), r"expected uint8 images .* got float64 \(60, 6, 6, 3\)"),
        ((IMAGES, LABELS[:10]), "and 10 targets"),
        ((IMAGES, LABELS, ["a"] * 60), "ids must be unique"),
        ((IMAGES, np.zeros(60)), r"found 1 class\(es\)"),
    ],
)
def test_what_does_not_fit_is_refused(module: Any, value: Any, message: str) -> None:
    module.wrong = lambda: value
    with pytest.raises(ValueError, match=message):
        load("wrong")


def test_what_cannot_be_loaded_is_explained(module: Any) -> None:
    module.number = 3
    with pytest.raises(ValueError, match="not a callable"):
        load("number")
    with pytest.raises(ValueError, match=r"cannot load 'nowhere_at_all:f'.*PYTHONPATH"):
        load_splits(DataConfig(source="nowhere_at_all:f"))
