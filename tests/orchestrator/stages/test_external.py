"""Ensembles of arrays made elsewhere: every format gives the same numbers, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.external import load_folder, run_external

LABELS = np.random.default_rng(0).integers(0, 3, 240)


def member(seed: int, *, sure: float = 1.2) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(size=(len(LABELS), 3))
    logits[np.arange(len(LABELS)), LABELS] += sure
    powers = np.exp(logits)
    found: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def write(folder: Path, rows: slice, members: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "labels.npy", LABELS[rows])
    for name, probs in members.items():
        np.save(folder / f"{name}.npy", probs[rows])
    return folder


def judge(folder: Path, **ensemble: Any) -> dict[str, Any]:
    experiment = Experiment.model_validate({"ensemble": ensemble, "search": {"metric": "accuracy"}}, strict=False)
    found: dict[str, Any] = json.loads(run_external(str(folder), experiment, lambda _: None).ensemble.read_text())
    return found


def test_a_folder_with_both_splits_is_judged_on_its_test_rows(tmp_path: Path) -> None:
    members = {name: member(seed) for seed, name in enumerate("abcde")}
    write(tmp_path / "val", slice(0, 120), members)
    write(tmp_path / "test", slice(120, 240), members)
    found = judge(tmp_path)
    assert found["judgement"]["n"] == 120
    single = next(row for row in found["judgement"]["rows"] if row["name"] == "best single")
    best = found["single"]["member_ids"][0]
    assert single["accuracy"] == pytest.approx(accuracy_score(LABELS[120:], members[best][120:].argmax(axis=1)))
    best_on_val = max(members, key=lambda name: accuracy_score(LABELS[:120], members[name][:120].argmax(axis=1)))
    assert accuracy_score(LABELS[:120], members[best][:120].argmax(axis=1)) == accuracy_score(
        LABELS[:120], members[best_on_val][:120].argmax(axis=1)
    )


def test_every_format_holds_the_same_member(tmp_path: Path) -> None:
    probs = member(1)
    write(tmp_path, slice(None), {"npy": probs})
    np.savez(tmp_path / "npz.npz", probabilities=probs, other=LABELS)
    np.savetxt(tmp_path / "csv.csv", probs, delimiter=",", header="a,b,c", comments="")
    val, test, hard = load_folder(tmp_path, seed=0)
    assert not hard
    assert len(val.labels) + len(test.labels) == len(LABELS)
    for part in (val, test):
        np.testing.assert_allclose(part.members["csv"], part.members["npy"], atol=1e-6)
        np.testing.assert_array_equal(part.members["npz"], part.members["npy"])


def test_hard_labels_alone_are_a_majority_vote(tmp_path: Path) -> None:
    votes = {name: member(seed).argmax(axis=1) for seed, name in enumerate("abc")}
    write(tmp_path / "val", slice(0, 120), votes)
    write(tmp_path / "test", slice(120, 240), votes)
    found = judge(tmp_path)
    assert found["ensemble"]["voting"] == "hard"
    everyone = next(row for row in found["judgement"]["rows"] if row["name"] == "uniform all")
    counts = np.stack([[np.sum([v[n] == c for v in votes.values()]) for c in range(3)] for n in range(120, 240)])
    assert everyone["accuracy"] == pytest.approx(accuracy_score(LABELS[120:], counts.argmax(axis=1)))


def test_numbers_are_judged_as_regression(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    targets = rng.normal(size=200)
    np.save(tmp_path / "labels.npy", targets)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", targets + rng.normal(size=200))
    experiment = Experiment.model_validate({"data": {"task": "regression"}}, strict=False)
    found = json.loads(run_external(str(tmp_path), experiment, lambda _: None).ensemble.read_text())
    assert found["judgement"]["verdict"]["metric"] == "rmse"
    assert found["diversity"]["ambiguity"] > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: np.save(folder / "a.npy", np.ones((3, 3))), r"a.npy: holds \(3, 3\)"),
        (lambda folder: np.save(folder / "a.npy", np.full(240, 0.5)), "not a class index"),
        (lambda folder: np.save(folder / "a.npy", np.full((240, 3), 0.9)), "no probabilities"),
        (lambda folder: np.save(folder / "a.npy", np.array([None])), "a.npy: "),
        (lambda folder: (folder / "labels.npy").unlink(), "needs labels.npy"),
        (lambda folder: (folder / "a.csv").write_text("x\nno number"), "a.csv: "),
        (lambda folder: (folder / "a.npz").write_bytes(b"torn"), "a.npz: "),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    write(tmp_path, slice(None), {"b": member(1)})
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        judge(tmp_path)


def test_a_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder at"):
        judge(tmp_path / "none")
