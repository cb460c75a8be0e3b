"""A report from a full run folder, from an empty one, from spoilt ones, and from one whose names attack the reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.report.page import write_report
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace, write_json

EVIL = '<script>alert("x")</script>|[a](javascript:b)'


class Reader(HTMLParser):
    """Collects tags, the sources of images, and the text of a page; unbalanced tags are an error."""

    VOID = frozenset({"meta", "img", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def record(trial_id: str, accuracy: float, **changes: object) -> MemberRecord:
    values: dict[str, object] = {
        "kind": "trial", "trainable": "image", "config": {"lr": 0.01 * (1 + accuracy), "model": "cnn_b"}, "seed": 0,
        "config_hash": "c", "data_fingerprint": "f1", "status": "finished", "epochs_run": 8, "best_epoch": 6,
        "seconds": 12.5, "device": "cpu", "metrics": {"val/accuracy": accuracy},
    }  # fmt: skip
    return MemberRecord(trial_id, **{**values, **changes})  # type: ignore[arg-type]


def fill(workspace: Workspace) -> None:
    """Write a run folder as the stages would."""
    rng, bank = np.random.default_rng(0), PredictionBank(workspace)
    labels = rng.integers(0, 3, 60)
    bank.put_targets("val", labels, [str(i) for i in range(60)], "f1")
    bank.put_targets("test", labels[:30], [str(i) for i in range(30)], "f1")
    for number, (trial_id, accuracy) in enumerate([("baseline", 0.5), ("t1", 0.7), ("t2", 0.8)]):
        workspace.save_record(record(trial_id, accuracy, kind="trial" if number else "baseline"))
        bank.put(trial_id, "val", rng.dirichlet(np.ones(3), 60).astype(np.float32))
    workspace.save_record(record("t3", 0.1, status="failed", error=f"CUDA {EVIL}", best_epoch=0))
    write_json(workspace.experiment, {
        "name": f"run {EVIL}", "data": {"source": "folder:photos"},
        "search": {"metric": "accuracy", "space": "scratch", "algorithm": "tpe", "scheduler": "asha"},
        "tracking": {"uri": "http://anna:hunter2@mlflow.example:5000", "token": "abc123"},
    })  # fmt: skip
    difference = {"accuracy_difference": 0.05, "accuracy_difference_low": 0.01, "accuracy_difference_high": 0.09}
    delta = {"delta": 0.05, "delta_low": 0.01, "delta_high": 0.09}
    turned = {"accuracy_difference": -0.05, "accuracy_difference_low": -0.09, "accuracy_difference_high": -0.01}
    write_json(workspace.ensemble, {
        "ensemble": {"voting": "soft", "method": "greedy", "temperature": 1.25, "notices": ["one member was dropped"],
                     "members": [{"trial_id": "t1", "weight": 0.25, "temperature": 1.0},
                                 {"trial_id": "t2", "weight": 0.75, "temperature": 0.9}]},
        "judgement": {"split": "test", "n": 30, "rows": [
            {"name": "ensemble", "members": 2, "accuracy": 0.85, "accuracy_low": 0.8, "accuracy_high": 0.9, "log_loss": 0.4,
             **delta, **difference},
            {"name": "best single", "members": 1, "accuracy": 0.8, "accuracy_low": 0.75, "accuracy_high": 0.85,
             "log_loss": 0.5},
            {"name": "baseline", "members": 1, "accuracy": 0.7, "log_loss": 0.9, **turned}],
            "verdict": {"gain": True, "text": "the ensemble is better", "recommended": "ensemble", "metric": "accuracy"}},
        "controls": {"best single": ["t2"], "baseline": ["baseline"]},
        "diversity": {"mean_disagreement": 0.21, "disagreement": [[0, 0.21], [0.21, 0]], "mean_kappa": None},
    })  # fmt: skip
    write_json(workspace.diagnosis, {
        "data": {"source": "folder:photos", "sizes": {"train": 100, "val": 60, "test": 30}, "image_shape": [8, 8, 3],
                 "classes": ["cat", EVIL, "eel"], "fingerprint": "f1", "skipped": 1,
                 "skipped_files": [["cat/bad.png", "not a readable image"]], "notices": ["two images are the same"]},
        "reasons": ["rotate: rotated images cost 0.100 of accuracy"],
        "probe": [{"name": "rotated", "accuracy": 0.4, "drop": 0.1, "low": 0.05, "high": 0.15}],
        "classes": [{"class": EVIL, "images": 20, "error": 0.4, "taken_for": "cat", "times": 5}],
    })  # fmt: skip
    for place in ("overview.png", "search/best_so_far.png", "trials/t1/learning_curves.png"):
        (workspace.figures / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "teal").save(workspace.figures / place)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "run")
    fill(found)
    return found


def test_tells_what_the_run_folder_holds(workspace: Workspace) -> None:
    html, markdown = write_report(workspace)
    text = Reader(html.read_text()).text
    for told in (
        "the ensemble is better", "0.8500 [0.8000, 0.9000]", "+0.0500 [+0.0100, +0.0900]", "Recommended: ensemble",
        "2 members, greedy, soft vote", "temperature after the vote 1.250", "one member was dropped",
        "train 100, val 60, test 30", "fingerprint: f1", "cat/bad.png", "two images are the same",
        "1 failed, 3 finished", "CUDA <script>", "rotated images cost", "lr 0.015 -> 0.018", "disagreement", "0.2100",
        "search best so far", "orchestrate export",
    ):  # fmt: skip
        assert told in text, told
    for title in (
        "Result",
        "Ledger of improvement",
        "Members",
        "Diversity",
        "Search",
        "Failed trials",
        "Data",
        "Figures",
        "Next",
    ):
        assert f"## {title}" in markdown.read_text()


def test_ledger_goes_from_the_baseline_to_the_ensemble(workspace: Workspace) -> None:
    text = Reader(write_report(workspace)[0].read_text()).text
    ledger = text[text.index("Ledger of improvement") : text.index("Members")]
    assert ledger.index("baseline") < ledger.index("best single") < ledger.index("greedy, soft vote")
    assert "baseline plain training 0.7000" in ledger
    assert "best single lr 0.015 -> 0.018 0.8000 [0.7500, 0.8500] +0.0500 [+0.0100, +0.0900]" in ledger


def test_page_stands_alone(workspace: Workspace) -> None:
    html, _ = write_report(workspace)
    reader = Reader(html.read_text())
    assert "script" not in reader.tags and "link" not in reader.tags
    assert len(reader.sources) == 2 and all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert "prefers-color-scheme: dark" in html.read_text() and "default-src 'none'" in html.read_text()


def test_names_cannot_attack(workspace: Workspace) -> None:
    html, markdown = write_report(workspace)
    assert "<script" not in html.read_text()
    outside_code = re.sub(r"```.*?```", "", markdown.read_text(), flags=re.DOTALL)
    assert "<script" not in outside_code.replace("\\<script", "")
    assert "[a](" not in outside_code and "\\[a\\](" in outside_code
    lines = [line for line in outside_code.splitlines() if "alert" in line and line.startswith("|")]
    assert lines and all(len(re.findall(r"(?<!\\)\|", line)) == 5 or "CUDA" in line for line in lines)


def test_secrets_are_stars(workspace: Workspace) -> None:
    for path in write_report(workspace):
        assert "hunter2" not in path.read_text() and "abc123" not in path.read_text()
        assert "mlflow.example" in path.read_text()


def test_an_empty_run_folder_has_a_report(tmp_path: Path) -> None:
    html, markdown = write_report(Workspace(tmp_path / "empty"))
    assert "No ensemble has been judged yet" in Reader(html.read_text()).text
    assert "orchestrate ensemble" in markdown.read_text()


@pytest.mark.parametrize("part", ["experiment", "ensemble", "diagnosis", "figures", "members", "targets"])
def test_any_part_may_be_missing(workspace: Workspace, part: str) -> None:
    import shutil

    path = workspace.root / "targets" if part == "targets" else getattr(workspace, part)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    html, _ = write_report(workspace)
    assert "Could not be read" not in Reader(html.read_text()).text


@pytest.mark.parametrize("part", ["experiment", "ensemble", "diagnosis"])
def test_what_cannot_be_read_is_named(workspace: Workspace, part: str) -> None:
    path: Path = getattr(workspace, part)
    path.write_text("{")
    text = Reader(write_report(workspace)[0].read_text()).text
    assert "Could not be read" in text and path.name in text


def test_a_spoilt_record_is_named_and_the_rest_stays(workspace: Workspace) -> None:
    workspace.record("t1").write_text('{"trial_id": "t1", "version": 99}')
    text = Reader(write_report(workspace)[0].read_text()).text
    assert "member t1: record of format 99" in text and "0.7500" in text


def test_without_a_gain_it_is_said(workspace: Workspace) -> None:
    from orchestrator.store.workspace import read_json

    found = read_json(workspace.ensemble)
    found["judgement"]["verdict"] = {"gain": False, "text": "no gain: the interval covers zero", "recommended": "single"}
    write_json(workspace.ensemble, found)
    html, _ = write_report(workspace)
    assert '<p class="careful">no gain: the interval covers zero</p>' in html.read_text()
    assert "Recommended: single" in html.read_text()


def test_a_regression_has_its_own_columns(workspace: Workspace) -> None:
    rows = [{"name": "ensemble", "members": 2, "rmse": 1.5, "mae": 1.0, "r2": 0.8}, {"name": "best single", "rmse": 1.75}]
    write_json(workspace.ensemble, {"judgement": {"split": "test", "n": 3, "rows": rows, "verdict": {"metric": "rmse"}}})
    text = Reader(write_report(workspace)[0].read_text()).text
    assert "RMSE" in text and "1.5000" in text and "1.7500" in text


def test_writing_again_writes_the_same(workspace: Workspace) -> None:
    first = [path.read_bytes() for path in write_report(workspace)]
    assert [path.read_bytes() for path in write_report(workspace)] == first
