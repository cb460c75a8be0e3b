"""Names and values are changed no more than MLflow's own checks demand."""

from __future__ import annotations

import math

import pytest

from orchestrator.tracking.naming import chunks, cut, flat_params, safe_name, split_finite


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("val/accuracy", "val/accuracy"), ("acc@5", "acc_5"), ("/abs//x/", "abs/x"), ("../up", "up"), ("a/./b", "a/b"),
        ("", "unnamed"), ("..", "unnamed"), ("é", "_"), ("lr: group 0", "lr: group 0"), ("x" * 300, "x" * 250),
    ],
)  # fmt: skip
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    "name", ["acc@5", "/abs//x/", "../up", "a/./b", "", "..", "é", "a b", "./.x", "a/ /b", "x" * 300, "%$#"]
)
def test_mlflow_accepts_every_safe_name(name: str) -> None:
    validation = pytest.importorskip("mlflow.utils.validation")
    validation._validate_metric_name(safe_name(name))
    validation._validate_param_name(safe_name(name))
    validation._validate_tag_name(safe_name(name))


def test_finite_numbers_are_kept_and_the_rest_is_named() -> None:
    kept, dropped = split_finite({"a": 1, "b": math.nan, "c": math.inf, "d": "x", "e": None, "f@1": 2.5, "g": True})
    assert kept == {"a": 1.0, "f_1": 2.5, "g": 1.0}
    assert dropped == ["b", "c", "d", "e"]


def test_nested_params_become_one_level_of_text() -> None:
    found = flat_params({"search": {"trials": 8, "deep": {"x": None}}, "lr": 1e-3, "list": (1, 2), "long": "y" * 9000})
    assert found["search.trials"] == "8"
    assert found["search.deep.x"] == "None"
    assert found["lr"] == "0.001"
    assert found["list"] == "(1, 2)"
    assert len(found["long"]) == 6000


def test_cut_and_chunks() -> None:
    assert cut("abcdef", 5) == "ab..."
    assert cut("abc", 3) == "abc"
    assert [list(part) for part in chunks([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]
    assert list(chunks([], 2)) == []
