"""Weight files are read without running code, checked name by name, and refused with what is wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.models.weights import is_file, load_strict, read_pipeline, read_weights


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_both_formats_come_back(name: str, tmp_path: Path) -> None:
    state = _model().state_dict()
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name)
    read = read_weights(str(tmp_path / name))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[k], state[k]) for k in state)
    assert is_file(name)
    assert read_pipeline(str(tmp_path / name)) is None


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran-code"),)  # type: ignore[return-value]


def test_a_file_with_code_or_damage_or_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb, damaged, other = tmp_path / "bomb.pth", tmp_path / "damaged.safetensors", tmp_path / "other.pth"
    bomb.write_bytes(pickle.dumps({"w": _Bomb()}, protocol=2))
    damaged.write_bytes(b"not a header")
    torch.save({"epoch": 3, "state": {}}, other)
    with pytest.raises(ValueError, match="more than tensors, or is damaged"):
        read_weights(str(bomb))
    assert not Path("ran-code").exists()
    with pytest.raises(ValueError, match="no readable safetensors"):
        read_weights(str(damaged))
    with pytest.raises(ValueError, match=r"no state_dict .* holds \['epoch', 'state'\]"):
        read_weights(str(other))
    with pytest.raises(ValueError, match="no file nowhere.pth"):
        read_weights("nowhere.pth")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"1.weight": None}, r"1 missing \(1.weight\)"),
        ({"extra": torch.zeros(1)}, r"1 unknown \(extra\)"),
        ({"0.weight": torch.zeros(2, 1, 5, 5)}, r"1 of another shape \(0.weight \(2, 1, 5, 5\), not \(2, 1, 3, 3\)\)"),
    ],
)
def test_a_missing_unknown_or_misshapen_tensor_is_named(change: dict[str, Tensor | None], complaint: str) -> None:
    state = {**_model().state_dict(), **change}
    with pytest.raises(ValueError, match="x.pth does not fit the model: " + complaint):
        load_strict(_model(), {k: v for k, v in state.items() if v is not None}, source="x.pth")


def test_old_files_without_batch_counters_and_training_only_extras_fit() -> None:
    model, state = _model(), _model().state_dict()
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    load_strict(model, {**given, "aux1.fc.weight": torch.zeros(1), "target.shift": torch.zeros(())}, source="x")
    assert torch.equal(model[0].weight, state["0.weight"])
