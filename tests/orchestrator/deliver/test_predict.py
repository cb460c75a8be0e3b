"""Files, folders and globs become rows in order, bad images are rows too, and CSV cells are inert."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.deliver.predict import find_images, predict_images, print_rows, write_csv
from orchestrator.deliver.runtime import Runtime
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World


def test_rows_equal_the_graph_on_the_same_pixels(world: World, photos: Path) -> None:
    rows = predict_images(world.bundle, [photos])
    expected = Runtime(world.bundle).probabilities(world.splits.test.images)
    assert len(rows) == len(expected) and not any("error" in row for row in rows)
    for row in rows:
        index = int(Path(row["path"]).stem)
        assert list(row["probabilities"].values()) == pytest.approx(expected[index].tolist(), abs=1e-6)
        assert row["class"] == world.splits.classes[expected[index].argmax()]


def test_a_corrupt_image_is_a_row_with_its_reason(world: World, photos: Path) -> None:
    bad = photos / "dog" / "00bad.png"
    bad.write_bytes(b"\x89PNG junk")
    rows = predict_images(world.bundle, [photos])
    (row,) = [row for row in rows if "error" in row]
    assert row == {"path": str(bad), "error": "not a readable image (UnidentifiedImageError)"}
    assert len(rows) == 21


def test_files_folders_and_patterns_each_image_once_in_order(photos: Path) -> None:
    one = sorted((photos / "dog").iterdir())[0]
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "a.png").write_bytes(one.read_bytes())
    (photos / "dog" / "._a.png").write_bytes(b"")
    (photos / "dog" / "notes.txt").write_text("no image")
    found = find_images([one, photos, str(photos / "*" / "0*.png")])
    assert found[0] == one and len(found) == len(set(found)) == 20
    assert find_images([str(photos / "*")]) == find_images([photos])


def test_where_nothing_is_the_path_is_named(tmp_path: Path, world: World) -> None:
    with pytest.raises(UserError, match=r"nothing\*.jpg: no image here"):
        predict_images(world.bundle, [tmp_path / "nothing*.jpg"])


def test_a_changed_bundle_is_refused(copy: Path, photos: Path) -> None:
    (copy / "runtime.py").write_text("import os")
    with pytest.raises(UserError, match="runtime.py changed"):
        predict_images(copy, [photos])


def test_csv_has_a_column_a_class_and_no_formula(world: World, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    buffer = io.StringIO()
    rows = predict_images(world.bundle, [photos, tmp_path / "bad.png"])
    write_csv([*rows, {**rows[0], "path": "@SUM(A1)"}], buffer)
    buffer.seek(0)
    table = list(csv.DictReader(buffer))
    assert list(table[0]) == ["path", "class", "probability", "p(=cat)", "p(dog)", "p(eel)", "error"]
    assert table[-1]["path"] == "'@SUM(A1)" and table[-2]["error"] and table[-2]["class"] == ""
    assert {row["class"] for row in table} <= {"'=cat", "dog", "eel", ""}
    assert float(table[0]["p(dog)"]) == pytest.approx(rows[0]["probabilities"]["dog"])


def test_prints_one_json_array_or_a_line_an_image(world: World, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    rows = predict_images(world.bundle, [*sorted((photos / "dog").iterdir())[:2], tmp_path / "bad.png"])
    as_json, as_text = io.StringIO(), io.StringIO()
    print_rows(rows, style="json", file=as_json)
    print_rows(rows, file=as_text)
    assert json.loads(as_json.getvalue()) == rows
    lines = as_text.getvalue().splitlines()
    assert rows[0]["class"] in lines[0] and "error: not a readable image" in lines[2]
    assert lines[3] == "1 of 3 could not be read"


def test_regression_rows_hold_a_value(world: World, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(world.bundle)
    monkeypatch.setitem(runtime.manifest, "classes", [])
    rows = predict_images(runtime, [photos])
    assert set(rows[0]) == {"path", "value"} and isinstance(rows[0]["value"], float)


def test_predicting_does_not_import_torch() -> None:
    import subprocess

    program = "import sys, orchestrator.deliver.predict, orchestrator.deliver.bundle; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, stdin=subprocess.DEVNULL, timeout=200)
