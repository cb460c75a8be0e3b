"""The exported graph against its live members, and what export refuses without touching the old bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import Tensor, nn

from orchestrator.deliver import graph
from orchestrator.deliver.bundle import open_bundle
from orchestrator.deliver.export import TOLERANCE, export_bundle
from orchestrator.deliver.runtime import Runtime
from orchestrator.errors import RunFailed, UserError

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World


def by_hand(pool: np.ndarray, ensemble: dict[str, Any]) -> np.ndarray:
    tempered = [p ** (1 / m["temperature"]) for p, m in zip(pool, ensemble["members"], strict=True)]
    mean = sum(m["weight"] * t / t.sum(1, keepdims=True) for t, m in zip(tempered, ensemble["members"], strict=True))
    powered = mean ** (1 / ensemble["temperature"])
    return powered / powered.sum(1, keepdims=True)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_graph_equals_the_live_members_for_any_batch(world: World, n: int) -> None:
    images = world.splits.test.images[:n]
    found = Runtime(world.bundle).probabilities(images)
    assert found.dtype == np.float32 and found.shape == (n, 3)
    np.testing.assert_allclose(found, by_hand(world.member_probabilities(images), world.ensemble), atol=TOLERANCE)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_manifest_says_what_is_inside(world: World) -> None:
    manifest = open_bundle(world.bundle).manifest
    assert manifest["classes"] == ["=cat", "dog", "eel"]
    assert {k: manifest["input"][k] for k in ("height", "width", "channels")} == {"height": 8, "width": 8, "channels": 3}
    assert [m["weight"] for m in manifest["ensemble"]["members"]] == [0.5, 0.3, 0.2]
    assert manifest["ensemble"]["members"][0]["config"] == {"lr": 0.1}
    assert manifest["data"]["fingerprint"] == "f" and manifest["scores"] == {"test/accuracy": 0.5}
    assert 0 <= manifest["check"]["largest_difference"] < TOLERANCE
    names = {"model.onnx", "runtime.py", "weights/t1.safetensors", "weights/t2.safetensors", "weights/t3.safetensors"}
    assert set(manifest["files"]) == names


def test_weights_travel_along(world: World) -> None:
    stored = load_file(world.bundle / "weights" / "t2.safetensors")
    expected = world.modules[1].state_dict()
    assert all(np.array_equal(stored[name], value.numpy()) for name, value in expected.items())


def test_bundle_names_no_path_of_this_machine(world: World) -> None:
    content = (world.bundle / "model.onnx").read_bytes() + (world.bundle / "manifest.json").read_bytes()
    assert str(Path.cwd()).encode() not in content and str(world.bundle.parent).encode() not in content
    assert b".py" not in (world.bundle / "model.onnx").read_bytes()


class Poisoned(nn.Module):
    """A member that has gone to NaN."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2)) * float("nan")


def test_a_member_of_nan_is_named_and_the_old_bundle_stays(world: World, copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(RunFailed, match="member t1 predicts NaN"):
        export_bundle(world.members, world.ensemble, world.splits, copy, load=lambda *_: Poisoned())
    assert (copy / "manifest.json").read_bytes() == before
    open_bundle(copy)


def test_a_graph_that_differs_is_not_written(world: World, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((copy / "manifest.json").read_text())["digest"]
    content = (copy / "model.onnx").read_bytes()
    monkeypatch.setattr(graph, "write_onnx", lambda _module, path, **_: path.write_bytes(content))
    swapped = {**world.ensemble, "temperature": 5.0}
    with pytest.raises(RunFailed, match="differs from the live models"):
        export_bundle(world.members, swapped, world.splits, copy, load=world.load)
    assert open_bundle(copy).digest == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_a_second_export_replaces_the_first(world: World, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (copy / "model.onnx").read_bytes()
    monkeypatch.setattr(graph, "write_onnx", lambda _module, path, **_: path.write_bytes(content))
    export_bundle(world.members, world.ensemble, world.splits, copy, load=world.load, scores={"test/accuracy": 0.75})
    assert open_bundle(copy).manifest["scores"] == {"test/accuracy": 0.75}
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_refuses_members_without_weights_of_other_data_or_of_another_ensemble(world: World, tmp_path: Path) -> None:
    gone = [(world.members[0][0], tmp_path / "gone"), *world.members[1:]]
    with pytest.raises(UserError, match="t1: its weights are gone"):
        export_bundle(gone, world.ensemble, world.splits, tmp_path / "out", load=world.load)
    other = [(world.members[0][0].replace(data_fingerprint="g"), world.members[0][1]), *world.members[1:]]
    with pytest.raises(UserError, match="t1 was trained on data g"):
        export_bundle(other, world.ensemble, world.splits, tmp_path / "out", load=world.load)
    with pytest.raises(ValueError, match="the ensemble names"):
        export_bundle(world.members[:2], world.ensemble, world.splits, tmp_path / "out", load=world.load)
    assert not (tmp_path / "out").exists()


def test_real_members_are_rebuilt_from_their_weights(world: World, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from trainables.config import TrainConfig
    from trainables.inference import InferenceModel, build_network
    from trainables.models import input_pipeline

    config = TrainConfig(model="cnn_b", width=4, image_size=16, device="cpu")
    pipeline = input_pipeline(config, world.splits)
    network = build_network(config, pipeline, outputs=3).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    record = world.members[0][0].replace(config=config.to_dict())
    alone = {"voting": "log", "members": [{"trial_id": "t1", "weight": 1.0, "temperature": 1.0}], "temperature": 1.0}
    bundle = export_bundle([(record, tmp_path / "w.safetensors")], alone, world.splits, tmp_path / "bundle")
    images = world.splits.test.images
    expected = graph.live_probabilities(InferenceModel(network, pipeline, config=config), images)
    np.testing.assert_allclose(Runtime(bundle).probabilities(images), expected, atol=TOLERANCE)
    assert expected.std() > 1e-4


def test_large_weights_lie_beside_the_graph(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "EXTERNAL_DATA_BYTES", 0)
    bundle = export_bundle(world.members, world.ensemble, world.splits, tmp_path / "bundle", load=world.load)
    assert "model.onnx.data" in open_bundle(bundle).manifest["files"]
    images = world.splits.test.images
    np.testing.assert_allclose(Runtime(bundle).probabilities(images), Runtime(world.bundle).probabilities(images), atol=1e-6)
