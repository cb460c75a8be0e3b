"""One real run on the digits for all tests of the stages: a baseline, a search of two trials, bags, and one boosting stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.config import Experiment
from orchestrator.context import Context, open_run
from orchestrator.stages.baseline import run_baseline
from orchestrator.stages.ensemble import run_ensemble
from orchestrator.stages.search import run_search_stage


class Run(NamedTuple):
    """An open run folder, and what its ensemble stage said."""

    context: Context
    found: dict[str, Any]


def _small(folder: Path, name: str, **ensemble: Any) -> Experiment:
    """Return a search of two small nets on some of the digits, in this process."""
    values = {
        "name": name, "run_dir": str(folder), "data": {"source": "digits", "limit": 200},
        "train": {"model": "cnn_a", "width": 4, "epochs": 2, "device": "cpu", "lr": 0.02},
        "search": {"trials": 2, "backend": "local", "scheduler": "none", "forbid": ["hflip"]},
        "ensemble": ensemble, "tracking": {"uri": "none"},
    }  # fmt: skip
    return Experiment.model_validate(values, strict=False)


@pytest.fixture(scope="session")
def small_experiment() -> Callable[..., Experiment]:
    """Return the maker of such an experiment: (folder, name, what stands under `ensemble:`)."""
    return _small


@pytest.fixture(scope="session")
def stage_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="session")
def bagged_run(stage_folder: Path) -> Run:
    """Four bootstrap bags of the best configuration (a look after three), and one boosting stage."""
    experiment = _small(stage_folder, "bagged", refit={"mode": "bootstrap", "members": 4}, boost_rounds=1)
    with open_run(experiment, lambda _: None) as context:
        run_baseline(context)
        run_search_stage(context)
        return Run(context, run_ensemble(context))
