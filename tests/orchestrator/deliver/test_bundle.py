"""A bundle is what was exported or it is refused: every file flipped, removed, added or linked elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.deliver.bundle import open_bundle, replaced, seal
from orchestrator.deliver.predict import open_runtime
from orchestrator.deliver.runtime import manifest_bytes
from orchestrator.errors import UserError


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.onnx", "runtime.py", "weights/t2.safetensors", "manifest.json"])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_refused_by_name(copy: Path, name: str, where: float) -> None:
    size = (copy / name).stat().st_size
    flip(copy / name, int(size * where))
    with pytest.raises(UserError, match=name):
        open_bundle(copy)


def test_whitespace_in_the_manifest_counts(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UserError, match="changed since the export"):
        open_bundle(copy)


def test_missing_added_and_linked_files_are_refused(copy: Path, tmp_path: Path) -> None:
    extra = copy / "weights" / "extra.bin"
    extra.write_bytes(b"x")
    with pytest.raises(UserError, match="weights/extra.bin does not belong"):
        open_bundle(copy)
    extra.unlink()
    model = copy / "model.onnx"
    model.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(UserError, match="model.onnx is missing"):
        open_bundle(copy)
    model.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(UserError, match="model.onnx is not a plain file"):
        open_bundle(copy)


def test_a_manifest_cannot_name_a_file_outside(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"sha256": "0", "bytes": 1}
    (copy / "manifest.json").write_bytes(manifest_bytes(manifest))
    with pytest.raises(UserError, match="../secret is missing"):
        open_bundle(copy)


def test_a_graph_may_not_read_outside_its_folder(copy: Path, tmp_path: Path) -> None:
    """A forged bundle, with a manifest that fits, whose weights point at a file of the machine that serves it."""
    import onnx

    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    model = onnx.load(copy / "model.onnx")
    tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 16)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").unlink()
    seal(copy, {key: value for key, value in manifest.items() if key not in ("digest", "files")})
    with pytest.raises(UserError, match="onnxruntime cannot load it"):
        open_runtime(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x", "version": 1}', '{"format": "x", "version": null}'])
def test_other_folders_are_no_bundles(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match="no manifest.json here"):
        open_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="manifest.json"):
        open_bundle(tmp_path)


def test_a_newer_format_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_bytes(manifest_bytes({**manifest, "version": 2}))
    with pytest.raises(UserError, match="up to version 1"):
        open_bundle(copy)


def test_a_failed_write_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with replaced(out) as fresh:
        (fresh / "a").write_text("old")
        seal(fresh, {"format": "x", "version": 1})
    with pytest.raises(OSError, match="disk full"), replaced(out) as fresh:
        (fresh / "a").write_text("new")
        raise OSError("disk full")
    assert (out / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_never_overwrites_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match="is not a bundle"), replaced(tmp_path):
        pass
    assert (tmp_path / "thesis.doc").exists()
