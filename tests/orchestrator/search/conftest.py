"""A small search on the digits for the tests of this room."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Experiment
from orchestrator.store.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))  # so that the tests here find their stand-ins

from search_fakes import SPACE, FakeTrainable, MakeExperiment, Telling  # noqa: E402


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeTrainable]:
    """Let "image" be the fake trainable in this process, without any fate; nobody pulls the plug, so nothing is fsynced."""
    monkeypatch.setattr("orchestrator.search.trial.load_trainable", lambda _: FakeTrainable)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(FakeTrainable, "FATES", {})
    return FakeTrainable


@pytest.fixture
def experiment(tmp_path: Path) -> MakeExperiment:
    """Return a maker of small local experiments; keywords go to `search:`."""
    (tmp_path / "space.yaml").write_text(json.dumps(SPACE))

    def make(*, train: Mapping[str, Any] | None = None, seed: int = 0, **search: Any) -> Experiment:
        values = {
            "trials": 5,
            "backend": "local",
            "space": str(tmp_path / "space.yaml"),
            "grace_epochs": 1,
            "reduction_factor": 2,
        }
        return Experiment.model_validate(
            {
                "name": "tiny", "run_dir": str(tmp_path / "runs"), "seed": seed, "data": {"source": "digits", "limit": 200},
                "train": {"model": "cnn_a", "width": 4, "epochs": 4, "device": "cpu", **(train or {})},
                "search": {**values, **search}, "tracking": {"uri": "none"},
            },
            strict=False,
        )  # fmt: skip

    return make


@pytest.fixture
def tracker() -> Telling:
    return Telling()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs" / "tiny")
