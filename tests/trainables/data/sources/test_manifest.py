"""A CSV manifest: columns, splits, numbers for regression, and paths that may not leave its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing
from trainables.data.sources import manifest

MakeFolder = Callable[..., Path]


def read(path: Path, text: str, *, task: str = "classification") -> Listing:
    (path / "list.csv").write_text(text)
    return manifest.read(DataConfig(source=f"csv:{path / 'list.csv'}", task=task))


def test_columns_in_any_order_quoted_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    found = read(tmp_path, '\ufefflabel, Path ,split\ncat,"a, b.png",train\n"big ""dog""",c\\d.png,Validation\ncat,e.png,\n')
    assert found.ids == ("a, b.png", "c/d.png", "e.png")
    assert found.classes == ('big "dog"', "cat")
    assert found.targets.tolist() == [1, 0, 1]
    assert found.given == ("train", "val", "")
    assert found.files[1] == tmp_path / "c" / "d.png"


def test_regression_takes_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, "path,label\na.png,1.5\nb.png,-2e3\n", task="regression")
    assert found.targets.tolist() == [1.5, -2000.0]
    assert found.classes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", r"column path missing; found: file, label"),
        ("", r"column path and label missing; found: none"),
        ("path,label\n/etc/passwd,x\n", r"list.csv:2: path '/etc/passwd' must be relative"),
        ("path,label\na.png,x\n../b.png,x\n", r"list.csv:3: path '../b.png' must be relative"),
        ("path,label\nhttp://x/y.png,x\n", r"must be relative and stay inside"),
        ("path,label\nC:\\x.png,x\n", r"must be relative and stay inside"),
        ("path,label\na.png,x\na.png,y\n", r"list.csv:3: path 'a.png' appears twice"),
        ("path,label\na.png,\n", r"path and label must not be empty"),
        ("path,label,split\na.png,x,extra\n", r"split 'extra', allowed: train, val, test or empty"),
        ("path,label\na.png,x\nb.png,x\n", r"found 1 class\(es\)"),
    ],
)
def test_what_does_not_hold_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("label", ["tall", "nan", "inf"])
def test_regression_refuses_what_is_no_number(tmp_path: Path, label: str) -> None:
    with pytest.raises(ValueError, match=rf"list.csv:3: label '{label}' is not a finite number"):
        read(tmp_path, f"path,label\na.png,1\nb.png,{label}\n", task="regression")


def test_missing_manifest_and_other_encodings_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CSV file .* is not there.*path,label"):
        manifest.read(DataConfig(source=f"csv:{tmp_path / 'no.csv'}"))
    (tmp_path / "list.csv").write_bytes("path,label\nä.png,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not readable as UTF-8 CSV"):
        manifest.read(DataConfig(source=f"csv:{tmp_path / 'list.csv'}"))


def test_links_out_of_the_folder_are_left_out(make_folder: MakeFolder) -> None:
    root, outside = make_folder({"a": 2}), make_folder({"x": 1}, name="outside")
    (root / "a" / "link.png").symlink_to(outside / "x" / "000.png")
    found = read(root, "path,label\na/000.png,1\na/001.png,2\na/link.png,2\n")
    assert found.ids == ("a/000.png", "a/001.png")
    assert found.skipped == (("a/link.png", "link that leaves the manifest's folder"),)


def test_signature_changes_with_manifest_and_files(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2})
    read(root, "path,label\na/000.png,1\na/001.png,2\n")
    config = DataConfig(source=f"csv:{root / 'list.csv'}")
    before = manifest.signature(config)
    (root / "a" / "001.png").write_bytes(b"changed")
    assert manifest.signature(config) != before
