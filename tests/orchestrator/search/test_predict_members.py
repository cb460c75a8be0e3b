"""Probabilities of kept weights: those that were banked, and other splits later, through the member's own views."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from trial_course import DATA, Cut, train

from orchestrator.deliver.export import load_member
from orchestrator.deliver.graph import live_probabilities
from orchestrator.errors import UserError
from orchestrator.search.predict_members import predict_split
from orchestrator.search.trial import splits_of
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemberRecord]:
    root = tmp_path_factory.mktemp("whole")
    return root, train(root)[0]


def test_what_older_weights_said_of_other_splits_goes_with_them(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    assert whole[1].best_epoch > 1
    with pytest.raises(Cut):
        train(tmp_path, until=1)
    workspace = Workspace(tmp_path)
    predict_split(workspace, DATA, ["a"], "test")  # an ensemble of the interrupted search
    older = PredictionBank(workspace).get("a", "test")
    train(tmp_path)
    assert not PredictionBank(workspace).has("a", "test")
    predict_split(workspace, DATA, ["a"], "test")
    assert not np.array_equal(PredictionBank(workspace).get("a", "test"), older)


def test_a_member_outlives_the_file_of_the_weights_it_started_from(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(Workspace(whole[0]).weights("a"), start)
    record, _ = train(tmp_path, config={"weights": str(start), "epochs": 1})
    assert record.status == "finished"
    predict_split(Workspace(tmp_path), DATA, ["a"], "test")
    there = PredictionBank(Workspace(tmp_path)).get("a", "test")
    start.unlink()
    Workspace(tmp_path).predictions("a", "test").unlink()
    predict_split(Workspace(tmp_path), DATA, ["a"], "test")
    np.testing.assert_array_equal(PredictionBank(Workspace(tmp_path)).get("a", "test"), there)


def test_kept_weights_give_the_banked_probabilities_again_and_the_test_splits(whole: tuple[Path, MemberRecord]) -> None:
    workspace = Workspace(whole[0])
    bank = PredictionBank(workspace)
    before = bank.get("a", "val")
    workspace.predictions("a", "val").unlink()
    predict_split(workspace, DATA, ["a"], "val")
    np.testing.assert_allclose(bank.get("a", "val"), before, atol=2e-3)
    heard: list[int] = []
    predict_split(workspace, DATA, ["a"], "test", heard=heard.append)
    assert bank.get("a", "test").shape == (len(splits_of(DATA).test), 10)
    assert list(bank.targets("test")) == list(splits_of(DATA).test.targets)
    assert sum(heard) == len(splits_of(DATA).test)


def test_a_member_is_banked_through_its_own_views_as_validation_was_and_the_bundle_will(tmp_path: Path) -> None:
    record, _ = train(tmp_path, config={"model": "cnn_a", "width": 4, "epochs": 1, "device": "cpu", "tta": "crops"})
    workspace, splits = Workspace(tmp_path), splits_of(DATA)
    bank, banked = PredictionBank(workspace), {}
    banked["val"] = bank.get("a", "val")
    predict_split(workspace, DATA, ["a"], "test")
    banked["test"] = bank.get("a", "test")
    served = load_member(record, workspace.weights("a"), splits)
    plain = load_member(record.replace(config={**record.config, "tta": "none"}), workspace.weights("a"), splits)
    for split in ("val", "test"):
        images = splits.part(split).images
        np.testing.assert_allclose(banked[split], live_probabilities(served, images), atol=1e-3)
        assert np.abs(banked[split] - live_probabilities(plain, images)).max() > 1e-2


def test_dropped_weights_are_named(tmp_path: Path, whole: tuple[Path, MemberRecord]) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    Workspace(tmp_path).weights("a").unlink()
    with pytest.raises(UserError, match="a: its weights were dropped; raise search.keep_weights"):
        predict_split(Workspace(tmp_path), DATA, ["a"], "train")
