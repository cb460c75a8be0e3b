"""Checkpoints: what is read back is what was written, and nothing broken is ever read."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from trainables import checkpoint


def state(value: float) -> dict[str, object]:
    return {"epoch": int(value), "model": {"w": torch.full((3, 2), value)}, "lr": 0.1, "history": [1.0, value], "name": "x"}


def test_round_trip_and_only_the_newest_two_stay(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        checkpoint.save(tmp_path / "c", state(epoch), epoch=epoch)
    found = checkpoint.load_newest(tmp_path / "c")
    assert found is not None
    epoch, loaded = found
    assert epoch == 4
    assert torch.equal(loaded["model"]["w"], torch.full((3, 2), 4.0))
    assert loaded["history"] == [1.0, 4.0]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["epoch-00000003", "epoch-00000004"]


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "absent") is None
    assert checkpoint.load_newest(tmp_path) is None


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "fault", ["flipped", "truncated", "no_success", "no_manifest", "garbled_manifest", "no_state", "newer"]
)
def test_a_broken_newest_one_is_skipped_with_a_warning(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.save(tmp_path, state(1), epoch=1)
    newest = checkpoint.save(tmp_path, state(2), epoch=2)
    file = newest / "state.pt"
    if fault == "flipped":
        flip_a_byte(file)
    elif fault == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif fault == "no_success":
        (newest / "_SUCCESS").unlink()
    elif fault == "no_manifest":
        (newest / "manifest.json").unlink()
    elif fault == "garbled_manifest":
        (newest / "manifest.json").write_text('{"epoch": 2')
    elif fault == "no_state":
        file.unlink()
    else:
        text = (newest / "manifest.json").read_text()
        (newest / "manifest.json").write_text(text.replace('"version": 1', '"version": 99'))
    with caplog.at_level(logging.WARNING):
        found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert found[0] == 1
    assert "epoch-00000002 skipped" in caplog.text


def test_all_broken_is_none_and_saving_goes_on(tmp_path: Path) -> None:
    flip_a_byte(checkpoint.save(tmp_path, state(1), epoch=1) / "state.pt")
    assert checkpoint.load_newest(tmp_path) is None
    checkpoint.save(tmp_path, state(1), epoch=1)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert found[0] == 1


def test_what_a_killed_writer_left_is_ignored_and_collected(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), epoch=1)
    left = tmp_path / ".epoch-00000002.4242"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert found[0] == 1
    checkpoint.save(tmp_path, state(2), epoch=2)
    assert not left.exists()


def test_a_crash_before_the_rename_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(1), epoch=1)

    def crash(path: Path) -> None:
        if path.name == "_SUCCESS":
            raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "_sync", crash)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path, state(2), epoch=2)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert found[0] == 1


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path, {"x": Hostile()}, epoch=1)
    assert checkpoint.load_newest(tmp_path) is None
    assert "ran" not in capsys.readouterr().out


def test_weights_round_trip_with_their_digest(tmp_path: Path) -> None:
    path = tmp_path / "m" / "weights.safetensors"
    shared = torch.arange(6.0)
    weights = {"a": shared.view(2, 3).t(), "b": shared, "n": torch.tensor(7)}
    digest = checkpoint.save_weights(path, weights)
    assert digest == checkpoint.sha256_of(path)
    loaded = checkpoint.load_weights(path)
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert [p.name for p in path.parent.iterdir()] == ["weights.safetensors"]


def test_weights_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    digest = checkpoint.save_weights(path, {"a": torch.zeros(3)})

    def crash(_: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "_sync", crash)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save_weights(path, {"a": torch.ones(3)})
    assert checkpoint.sha256_of(path) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
