"""A folder of images: with and without split subfolders, and everything that ImageFolder takes wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.data.dataset import DataConfig
from trainables.data.sources import folder

MakeFolder = Callable[..., Path]


def config(root: Path) -> DataConfig:
    return DataConfig(source=f"folder:{root}")


def test_classes_ids_and_targets_in_order(make_folder: MakeFolder) -> None:
    found = folder.read(config(make_folder({"bees": 2, "ants": 3})))
    assert found.classes == ("ants", "bees")
    assert found.ids == ("ants/000.png", "ants/001.png", "ants/002.png", "bees/000.png", "bees/001.png")
    assert found.targets.tolist() == [0, 0, 0, 1, 1]
    assert set(found.given) == {""}


def test_numbers_are_ordered_by_value(make_folder: MakeFolder) -> None:
    assert folder.read(config(make_folder({"10": 1, "2": 1, "1": 1}))).classes == ("1", "2", "10")


def test_split_subfolders_in_their_usual_words(make_folder: MakeFolder) -> None:
    found = folder.read(config(make_folder({"Training/a": 2, "Training/b": 1, "valid/a": 1, "test/b": 1})))
    assert list(zip(found.ids, found.given, found.targets.tolist(), strict=True)) == [
        ("test/b/000.png", "test", 1),
        ("Training/a/000.png", "train", 0),
        ("Training/a/001.png", "train", 0),
        ("Training/b/000.png", "train", 1),
        ("valid/a/000.png", "val", 0),
    ]


def test_hidden_things_are_ignored_and_other_files_are_named(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2, ".ipynb_checkpoints": 2})
    (root / "a" / "._000.png").write_bytes(b"resource fork")
    (root / "a" / "notes.txt").write_text("not an image")
    found = folder.read(config(root))
    assert found.classes == ("a", "b")
    assert len(found) == 4
    assert found.skipped == (("a/notes.txt", "not an image file"),)


def test_classes_of_val_and_test_must_be_those_of_train(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match=r"val/c not among the classes of train \(a, b\)"):
        folder.read(config(make_folder({"train/a": 1, "train/b": 1, "val/c": 1})))


def test_links_out_of_the_folder_are_refused(make_folder: MakeFolder) -> None:
    elsewhere = make_folder({"x": 2}, name="elsewhere")
    root = make_folder({"a": 2, "b": 2})
    (root / "a" / "link.png").symlink_to(elsewhere / "x" / "000.png")
    (root / "a" / "inside.png").symlink_to(root / "b" / "000.png")
    found = folder.read(config(root))
    assert found.skipped == (("a/link.png", "link that leaves the data folder"),)
    assert "a/inside.png" in found.ids
    (root / "c").symlink_to(elsewhere / "x")
    with pytest.raises(ValueError, match=r"c is a link to a folder, which is not followed"):
        folder.read(config(root))


@pytest.mark.parametrize("names", [("a", "A"), ("caf\u00e9", "cafe\u0301"), ("a", "a ")])
def test_twin_class_names_are_refused(make_folder: MakeFolder, names: tuple[str, str]) -> None:
    root = make_folder({name: 1 for name in names})
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system does not tell these names apart")
    with pytest.raises(ValueError, match="differ only in case, spaces or accents"):
        folder.read(config(root))


def test_control_characters_and_single_classes_are_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match="control characters"):
        folder.read(config(make_folder({"a\nb": 1, "c": 1})))
    with pytest.raises(ValueError, match=r"found 1 class\(es\) \(only\)"):
        folder.read(config(make_folder({"only": 3}, name="single")))


def test_missing_and_flat_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder .*nowhere' is not there"):
        folder.read(config(tmp_path / "nowhere"))
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match="has no subfolders"):
        folder.read(config(tmp_path / "flat"))
    with pytest.raises(ValueError, match="regression needs csv:PATH"):
        folder.read(DataConfig(source=f"folder:{tmp_path}", task="regression"))


def test_signature_changes_with_the_files(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2})
    before = folder.signature(config(root))
    assert folder.signature(config(root)) == before
    (root / "b" / "001.png").write_bytes(b"other content")
    changed = folder.signature(config(root))
    assert changed != before
    (root / "b" / "001.png").unlink()
    assert folder.signature(config(root)) not in (before, changed)
