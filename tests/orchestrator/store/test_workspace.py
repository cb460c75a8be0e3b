"""The run folder writes whole files or none, and never leaves itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace, read_json, write_atomic, write_json


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})
    with pytest.raises(TypeError):
        write_json(target, {"x": object()})
    with pytest.raises(TypeError):
        write_atomic(target, "text, not bytes")  # type: ignore[arg-type]
    assert read_json(target) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("trial_id", ["../x", "a/b", "", "a.b", "a\0"])
def test_ids_that_leave_the_folder_are_refused(tmp_path: Path, trial_id: str) -> None:
    with pytest.raises(ValueError, match="trial id"):
        Workspace(tmp_path).member(trial_id)


def test_records_come_back_in_order(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name in ("t2", "t1"):
        workspace.save_record(
            MemberRecord(
                trial_id=name,
                kind="trial",
                trainable="image",
                config={},
                seed=0,
                config_hash="",
                data_fingerprint="",
                status="running",
            )
        )
    assert [r.trial_id for r in workspace.load_records()] == ["t1", "t2"]
    assert workspace.load_record("t2").status == "running"
