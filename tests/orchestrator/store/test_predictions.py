"""The bank keeps probabilities through float16, and refuses what does not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import Workspace


@pytest.fixture
def bank(tmp_path: Path) -> PredictionBank:
    return PredictionBank(Workspace(tmp_path))


def test_round_trip_is_float16_close_and_sums_to_one(bank: PredictionBank) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(10), 50).astype(np.float32)
    bank.put("a", "val", probs)
    back = bank.get("a", "val")
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, probs, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(back.sum(1), 1, atol=1e-6)


def test_regression_values_keep_float32(bank: PredictionBank) -> None:
    values = np.array([[123456.7], [-0.001]], np.float32)
    bank.put("a", "val", values)
    np.testing.assert_array_equal(bank.get("a", "val"), values)


@pytest.mark.parametrize("bad", [np.full((2, 2), np.nan, np.float32), np.zeros(3, np.float32)])
def test_not_finite_or_not_two_dimensional_is_refused(bank: PredictionBank, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected finite"):
        bank.put("a", "val", bad)


def test_other_rows_are_refused_by_name(bank: PredictionBank) -> None:
    bank.put("a", "val", np.full((3, 2), 0.5, np.float32))
    bank.put("b", "val", np.full((4, 2), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"member b: predictions \(4, 2\)"):
        bank.stack(["a", "b"], "val")
    assert bank.stack(["a", "a"], "val").shape == (2, 3, 2)


def test_targets_of_other_data_are_refused(bank: PredictionBank) -> None:
    bank.put_targets("val", np.array([0, 1]), ["x", "y"], "f1")
    bank.put_targets("val", np.array([0, 1]), ["x", "y"], "f1")
    assert bank.targets("val").tolist() == [0, 1]
    assert bank.ids("val") == ("x", "y")
    with pytest.raises(ValueError, match="holds data f1"):
        bank.put_targets("val", np.array([1, 1]), ["x", "y"], "f2")
