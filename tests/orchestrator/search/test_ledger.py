"""The ledger: what is appended is read back in order, whatever a crash left at the end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orchestrator.search.ledger import Ledger, read_events, spec_from, spec_to, trial_logs
from orchestrator.store.records import TrialSpec

SPEC = TrialSpec("t0000", {"lr": 0.1, "epochs": 3}, kind="refit", parent="t0009")


def write(path: Path) -> bytes:
    ledger = Ledger(path)
    ledger.append("opened", total=2)
    ledger.append("created", "t0000", spec=spec_to(SPEC), drawn={"lr": 0.1})
    ledger.append("epoch", "t0000", epoch=1, metrics={"val/accuracy": 0.5})
    ledger.close()
    return path.read_bytes()


def test_a_torn_last_line_is_left_out_at_every_cut_and_the_next_line_stands_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    content = write(path)
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert len(read_events(path)) == whole
    path.write_bytes(content[:-5])
    again = Ledger(path)
    again.append("ended", "t0000", status="stopped", reason="asha")
    again.close()
    assert [e["event"] for e in read_events(path)] == ["opened", "created", "ended"]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    content = write(path)
    path.write_bytes(content.replace(b'"created"', b'"created'))
    with pytest.raises(ValueError, match=r"ledger.jsonl:2: not a ledger line"):
        read_events(path)


def test_no_ledger_is_an_empty_one(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == []


def test_logs_count_an_epoch_once_and_follow_a_trial_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path)
    ledger = Ledger(path)
    ledger.append("epoch", "t0000", epoch=1, metrics={"val/accuracy": 0.9})
    ledger.append("retried", "t0000", error="worker lost")
    ledger.append("epoch", "t0000", epoch=2, metrics={"val/accuracy": 0.6})
    ledger.append("epoch", "unknown", epoch=2, metrics={})
    other = TrialSpec("t0000", {"lr": 0.2}, kind="refit", parent="t0009")
    ledger.append("exploited", "t0000", spec=spec_to(other), source="t0001")
    ledger.append("ended", "t0000", status="stopped", reason="asha")
    ledger.close()
    logs = trial_logs(read_events(path))
    log = logs["t0000"]
    assert list(logs) == ["t0000"] and log.spec == other and log.retries == 1 and log.drawn == {"lr": 0.1}
    assert {e: m["val/accuracy"] for e, m in log.epochs.items()} == {1: 0.5, 2: 0.6}
    assert (log.status, log.reason) == ("stopped", "asha")


def test_a_spec_survives_the_ledger() -> None:
    assert spec_from(spec_to(SPEC)) == SPEC
    waiting = dataclasses.replace(SPEC, waits=(2, 4))
    assert spec_from(json.loads(json.dumps(spec_to(waiting)))) == waiting
    assert "waits" not in spec_to(SPEC), "the ledger is as it was"
