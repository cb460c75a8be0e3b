"""What is seen of a data source before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.setup.look import look_at

Photos = Callable[..., Path]


def test_a_folder(tmp_path: Path, photos: Photos) -> None:
    root = photos(tmp_path / "data", {"cat": 6, "dog": 12})
    (root / "cat" / "notes.txt").write_text("x")
    (root / "dog" / "broken.jpg").write_bytes(b"x")
    look = look_at(f"folder:{root}")
    assert look.counts == {"cat": 6, "dog": 12}
    assert (look.images, look.side, look.one_size, look.channels) == (18, 101, False, 3)
    assert look.imbalance == pytest.approx(2)
    assert [name for name, _ in look.skipped] == ["cat/notes.txt", "dog/broken.jpg"]
    assert look_at(str(root)) == look


def test_a_folder_with_splits(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 3})
    assert look_at(str(tmp_path)).given == {"train": 10, "val": 5}


def test_manifests_of_classes_and_of_numbers(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, {"x": 6})
    for name, labels in (("c.csv", ["cat", "dog"] * 3), ("n.csv", ["1.5", "2.5", "3", "4", "5", "6.25"])):
        lines = [f"x/{number}.jpg,{label}" for number, label in enumerate(labels)]
        (tmp_path / name).write_text("path,label\n" + "\n".join(lines) + "\n")
    assert look_at(str(tmp_path / "c.csv")).counts == {"cat": 3, "dog": 3}
    assert look_at(f"csv:{tmp_path / 'n.csv'}").regression


def test_known_sets_need_no_files() -> None:
    assert (look_at("cifar10").images, look_at("cifar10").side) == (50_000, 32)
    assert look_at("digits").images == 1797
    assert look_at("digits").channels == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "nowhere: no such folder; allowed: folder:PATH"),
        ("folder:nowhere", "data.source: folder 'nowhere' is not there"),
    ],
)
def test_nothing_there(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        look_at(source)


def test_a_class_of_files_that_cannot_be_read_says_why(tmp_path: Path, photos: Photos) -> None:
    root = photos(tmp_path / "data", {"cat": 3})
    (root / "dog").mkdir()
    (root / "dog" / "broken.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no image of class dog \(1 files left out, dog/broken.jpg: .*\); add some"):
        look_at(f"folder:{root}")


def test_no_image_at_all(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="no image could be read"):
        look_at(str(tmp_path))
