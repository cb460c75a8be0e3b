"""Members out of MLflow: judged as the same arrays in a folder are, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.external import run_external
from orchestrator.tracking.mlflow_runs import prepare_mlflow

ROWS = {"val": slice(0, 120), "test": slice(120, 240)}
LABELS = np.random.default_rng(0).integers(0, 3, 240)
NAME = "their project"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('theirs') / 'mlflow.db'}"
    prepare_mlflow(uri)
    return uri


def probs(seed: int) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(size=(240, 3))
    logits[np.arange(240), LABELS] += 1.2
    powers = np.exp(logits)
    found: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


class Theirs:
    """An MLflow that others logged to."""

    def __init__(self, address: str, name: str, folder: Path) -> None:
        from mlflow.tracking.client import MlflowClient

        self.name, self.folder, self.client = name, folder, MlflowClient(tracking_uri=address)
        self.number = self.client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri())
        self.experiment = Experiment.model_validate(
            {"run_dir": str(folder / "runs"), "tracking": {"uri": address}, "search": {"metric": "accuracy"}}, strict=False
        )

    def log(self, run_name: str, *, ended: bool = True, **arrays: Any) -> str:
        run_id: str = self.client.create_run(self.number, run_name=run_name).info.run_id
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", array)
            self.client.log_artifact(run_id, str(self.folder / f"{name}.npy"))
        if ended:
            self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def judged(self, asked: str, said: list[str] | None = None) -> dict[str, Any]:
        sink = said if said is not None else []
        found: dict[str, Any] = json.loads(run_external(f"mlflow:{asked}", self.experiment, sink.append).ensemble.read_text())
        return found


@pytest.fixture
def theirs(address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Theirs:
    return Theirs(address, f"{NAME} {request.node.name}", tmp_path)


def both(seed: int) -> dict[str, Any]:
    return {f"{split}_probs": probs(seed)[rows] for split, rows in ROWS.items()}


def labels() -> dict[str, Any]:
    return {f"{split}_labels": LABELS[rows] for split, rows in ROWS.items()}


def test_runs_of_an_experiment_are_judged_as_the_folder_with_their_arrays(theirs: Theirs, tmp_path: Path) -> None:
    theirs.log("a/first", **both(1), **labels())
    for number, name in enumerate(("b", "same", "same"), start=2):
        theirs.log(name, **both(number))
    theirs.log("no predictions", notes=np.zeros(3))
    theirs.log("still running", ended=False, **both(9))
    said: list[str] = []
    found = theirs.judged(theirs.name, said)
    assert len(found["pool"]) == 4 and {"a_first", "b"} < set(found["pool"])
    assert "4 runs with predictions" in said[0]
    for split, rows in ROWS.items():
        place = tmp_path / "by hand" / split
        place.mkdir(parents=True)
        np.save(place / "labels.npy", LABELS[rows])
        for seed in (1, 2, 3, 4):
            np.save(place / f"member{seed}.npy", probs(seed)[rows])
    by_hand = json.loads(run_external(str(tmp_path / "by hand"), theirs.experiment, lambda _: None).ensemble.read_text())
    one, other = (next(r for r in f["judgement"]["rows"] if r["name"] == "uniform all") for f in (found, by_hand))
    assert one["log_loss"] == pytest.approx(other["log_loss"], abs=1e-6)


def test_runs_by_id_with_hard_labels_alone_vote(theirs: Theirs) -> None:
    ids = [theirs.log(name, val_probs=probs(seed).argmax(axis=1), val_labels=LABELS) for seed, name in enumerate("abc")]
    found = theirs.judged(",".join(ids))
    assert found["ensemble"]["voting"] == "hard"
    assert found["pool"] == ["a", "b", "c"]
    assert found["judgement"]["n"] == 120, "half of the rows choose, half judge"


def test_what_does_not_fit_is_named(theirs: Theirs) -> None:
    with pytest.raises(UserError, match="no experiment of this name; there are: .*Default"):
        theirs.judged("nobody's")
    with pytest.raises(UserError, match=r"mlflow:0{32}: MLflow at sqlite.* says: .*not found"):
        theirs.judged("0" * 32)
    one = theirs.log("a", val_probs=probs(1))
    with pytest.raises(UserError, match="1 runs with val_probs.npy"):
        theirs.judged(one)
    other = theirs.log("b", val_probs=probs(2))
    with pytest.raises(UserError, match="none of the runs has val_labels.npy"):
        theirs.judged(f"{one},{other}")
    right, wrong = theirs.log("c", val_labels=LABELS), theirs.log("d", val_labels=LABELS[::-1])
    with pytest.raises(UserError, match="val_labels of d differ from those of c: predictions of other images?"):
        theirs.judged(f"{one},{other},{right},{wrong}")
    assert theirs.judged(f"{one},{other},{right}")["pool"] == ["a", "b"]


def test_without_mlflow_there_is_nothing_to_fetch(tmp_path: Path) -> None:
    experiment = Experiment.model_validate({"tracking": {"uri": "none"}, "run_dir": str(tmp_path)}, strict=False)
    with pytest.raises(UserError, match="tracking.uri is none"):
        run_external("mlflow:theirs", experiment, lambda _: None)
