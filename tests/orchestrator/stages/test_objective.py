"""A search for an ensemble: what the searcher hears is the gain on the live bank, kept in the ledger, and heard again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import Experiment
from orchestrator.context import open_run
from orchestrator.ensemble.gain import EnsembleGain
from orchestrator.search.algorithms import StudyProposer
from orchestrator.search.ledger import read_events
from orchestrator.stages.baseline import run_baseline
from orchestrator.stages.objective import worth_of
from orchestrator.stages.search import run_search_stage
from orchestrator.store.predictions import PredictionBank


def test_told_in_order_and_again_after_a_restart(
    stage_folder: Path, small_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    tell = StudyProposer.tell

    def listen(self: StudyProposer, trial_id: str, *, status: str, score: float, epoch: int) -> None:
        heard.append(score)
        tell(self, trial_id, status=status, score=score, epoch=epoch)

    monkeypatch.setattr(StudyProposer, "tell", listen)
    plain = small_experiment(stage_folder, "gain")
    search = plain.search.model_copy(update={"objective": "ensemble_gain", "trials": 3})
    with open_run(plain.model_copy(update={"search": search}), lambda _: None) as context:
        assert worth_of(context) is not None
        run_baseline(context)
        run_search_stage(context)
        run_search_stage(context, resume=True, extra_trials=1)
    events = read_events(context.workspace.ledger)
    told = {e["trial_id"]: e["told"] for e in events if e["event"] == "ended" and "told" in e}
    assert list(told) == ["t0000", "t0001", "t0002", "t0003"]
    assert heard == [*list(told.values())[:3], *told.values()], "the restarted searcher hears the old ones again, then the new"
    bank = PredictionBank(context.workspace)
    gain = EnsembleGain(bank.targets("val").astype(np.int64))
    gain.add("baseline", bank.get("baseline", "val"))
    for trial_id, value in told.items():
        assert gain.loss(bank.get(trial_id, "val")) == pytest.approx(value, abs=1e-9)
        gain.add(trial_id, bank.get(trial_id, "val"))


def test_a_trials_own_score_is_the_default_and_regression_has_no_other(
    stage_folder: Path, small_experiment: Callable[..., Experiment]
) -> None:
    plain = small_experiment(stage_folder, "own")
    with open_run(plain, lambda _: None) as context:
        assert worth_of(context) is None
    values: dict[str, Any] = plain.model_dump(mode="json")
    values["data"]["task"], values["search"]["objective"] = "regression", "ensemble_gain"
    for section in ("search", "ensemble"):
        values[section]["metric"] = "rmse"
    with pytest.raises(ValueError, match=r"search\.objective"):
        Experiment.model_validate(values, strict=False)
