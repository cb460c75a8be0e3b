"""LazyImages indexes as the decoded array would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.data.dataset import ImageSet
from trainables.data.decode import decode_image
from trainables.data.lazy import LazyImages


@pytest.fixture
def lazy(make_folder: Callable[..., Path]) -> tuple[LazyImages, np.ndarray]:
    files = sorted(make_folder({"a": 4, "b": 3}).rglob("*.png"))
    array = np.stack([decode_image(file, image_size=8, channels=3, max_pixels=1000) for file in files])
    return LazyImages(files, shape=(8, 8, 3), image_size=8, max_pixels=1000), array


def test_indexing_equals_the_array(lazy: tuple[LazyImages, np.ndarray]) -> None:
    images, array = lazy
    assert (images.shape, images.dtype, images.ndim, len(images), images.nbytes) == (
        array.shape,
        array.dtype,
        4,
        7,
        array.nbytes,
    )
    assert np.array_equal(images[2], array[2])
    assert np.array_equal(images[1:5:2], array[1:5:2])
    assert np.array_equal(images[np.array([6, 0, 0])], array[[6, 0, 0]])
    assert np.array_equal(images[array[:, 0, 0, 0] > 100], array[array[:, 0, 0, 0] > 100])
    assert np.array_equal(np.asarray(images), array)
    assert images[:0].shape == (0, 8, 8, 3)


def test_it_stands_in_for_the_images_of_a_split(lazy: tuple[LazyImages, np.ndarray]) -> None:
    images, array = lazy
    part = ImageSet(images, np.arange(7), tuple("abcdefg"))  # type: ignore[arg-type]
    assert np.array_equal(part.take(np.array([3, 1])).images, array[[3, 1]])


def test_a_file_that_changed_is_named(lazy: tuple[LazyImages, np.ndarray]) -> None:
    images, _ = lazy
    images._files[3].write_bytes(b"gone bad")
    with pytest.raises(ValueError, match=r"000.png|003.png.*was readable when the data were checked"):
        images[np.array([3])]
