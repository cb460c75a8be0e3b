"""Size, channels, counts and unreadable files are settled from the headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainables.data.dataset import DataConfig
from trainables.data.plan import Plan, make_plan
from trainables.data.sources import folder

MakeFolder = Callable[..., Path]


def plan(root: Path, **options: Any) -> Plan:
    config = DataConfig(source=f"folder:{root}", **options)
    return make_plan(folder.read(config), config)


def test_one_common_size_is_kept_and_another_is_made(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    assert (plan(root).shape, plan(root).image_size) == ((12, 12, 3), 0)
    assert plan(root, image_size=8).shape == (8, 8, 3)
    assert plan(root, channels=1).shape == (12, 12, 1)
    assert plan(root).nbytes == 12 * 12 * 12 * 3


def test_differing_sizes_take_the_median_short_side_in_steps_of_32(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    for number in range(20):
        Image.new("L", (100 + number, 90)).save(root / "a" / f"large{number}.png")
    found = plan(root)
    assert found.shape == (96, 96, 3)
    assert "median short side 90): resized and centre-cropped to 96 x 96" in found.listing.notices[0]
    for number in range(40):
        Image.new("L", (900, 1000)).save(root / "b" / f"huge{number}.png")
    assert plan(root).shape == (224, 224, 3)


def test_too_few_images_of_a_class_are_named(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match=r"too few images in class b \(2\), c \(0\); data.min_per_class is 5"):
        plan(make_folder({"a": 9, "b": 2, "c": 0}))


def test_unreadable_files_are_left_out_up_to_a_share(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 12, "b": 12})
    (root / "a" / "000.png").write_bytes(b"text, not pixels")
    (root / "b" / "empty.png").touch()
    found = plan(root)
    assert found.listing.skipped == (("a/000.png", "not a readable image"), ("b/empty.png", "file is empty"))
    assert len(found.listing) == 23
    with pytest.raises(ValueError, match=r"2 of 25 images cannot be read, more than data.max_bad_fraction = 0.01: a/000.png"):
        plan(root, max_bad_fraction=0.01)


def test_an_empty_source_is_an_error(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match="not a single image found"):
        plan(make_folder({"a": 0, "b": 0}))
