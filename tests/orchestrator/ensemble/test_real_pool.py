"""Ensembles of real trials, one of them far ahead: accepted for their log-loss, not for accuracy; the numbers are sklearn's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss

from orchestrator.ensemble.build import EnsembleSpec, fit_controls, fit_ensemble
from orchestrator.ensemble.judge import Judgement, judge

POOL = Path(__file__).parents[2] / "data" / "fashion_mnist_pool.npz"


class Pool(NamedTuple):
    ids: list[str]
    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    def judged(self, **spec: Any) -> Judgement:
        asked = EnsembleSpec(**({"metric": "log_loss", "folds": 0} | spec))
        options: dict[str, Any] = {"spec": asked, "member_ids": self.ids, "seed": 0}
        chosen = fit_ensemble(self.val, self.val_labels, **options)
        controls = fit_controls(self.val, self.val_labels, ensemble=chosen, **options)
        predictions = dict(zip(self.ids, self.test, strict=True))
        return judge(chosen, controls, predictions, self.test_labels, seed=0)


@pytest.fixture(scope="module")
def pool() -> Pool:
    with np.load(POOL, allow_pickle=False) as stored:
        val, test = (_normal(stored[split]) for split in ("val", "test"))
        labels = [stored[f"{split}_labels"].astype(np.int64) for split in ("val", "test")]
        return Pool([str(i) for i in stored["ids"]], val, labels[0], test, labels[1])


def _normal(probs: NDArray[np.float16]) -> NDArray[np.float32]:
    wide = probs.astype(np.float32)
    found: NDArray[np.float32] = wide / wide.sum(axis=-1, keepdims=True)
    return found


def test_the_file_stays_small() -> None:
    assert POOL.stat().st_size < 4_000_000


@pytest.mark.parametrize("method", ["greedy", "convex", "log_pool", "auto"])
def test_the_gate_accepts_an_ensemble_of_real_trials_for_its_log_loss(pool: Pool, method: str) -> None:
    judged = pool.judged(method=method)
    assert judged.verdict.verdict == "gain"
    assert judged.verdict.high < 0
    assert judged.verdict.recommended == "ensemble"


def test_where_one_model_is_far_ahead_the_gate_says_no_gain_in_accuracy(pool: Pool) -> None:
    verdict = pool.judged(metric="accuracy", method="greedy").verdict
    assert verdict.verdict == "no gain"
    assert verdict.low < 0 < verdict.high
    assert verdict.recommended == "single"


def test_rows_are_what_sklearn_says(pool: Pool) -> None:
    row = pool.judged(calibrate=False).row("uniform all")
    mean = pool.test.mean(axis=0, dtype=np.float64)
    mean /= mean.sum(axis=1, keepdims=True)
    assert row.scores["accuracy"] == pytest.approx(accuracy_score(pool.test_labels, mean.argmax(axis=1)))
    assert row.scores["log_loss"] == pytest.approx(log_loss(pool.test_labels, mean), rel=1e-4)


def test_a_temperature_a_member_chooses_no_worse_an_ensemble(pool: Pool) -> None:
    calibrated, raw = (
        pool.judged(method="convex", calibrate=flag).row("ensemble").scores["log_loss"] for flag in (True, False)
    )
    assert calibrated < raw
