"""What may be asked."""

from __future__ import annotations

import pytest

from orchestrator.ensemble.spec import EnsembleSpec


def test_defaults():
    spec = EnsembleSpec()
    assert (spec.method, spec.criterion, spec.voting, spec.regression) == ("convex", "log_loss", "soft", False)
    assert EnsembleSpec(metric="rmse").criterion == "rmse"
    assert EnsembleSpec(metric="accuracy", select_by="accuracy").criterion == "accuracy"


def test_shrinkage_grows_where_rows_are_few():
    assert EnsembleSpec().shrinkage(1000, 200) == 0.1
    assert EnsembleSpec().shrinkage(999, 200) == 0.5
    assert EnsembleSpec(l2=0.0).shrinkage(10, 200) == 0.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "best"}, "method must be one of convex, greedy.*'best'"),
        ({"method": "stack_lr"}, "method must be one of"),
        ({"metric": "auc"}, "metric must be one of"),
        ({"voting": "majority"}, "voting must be one of soft, hard, log"),
        ({"select_by": "speed"}, "select_by must be one of"),
        ({"select_by": "rmse"}, "different tasks"),
        ({"max_members": 0}, "max_members must be >= 1; got 0"),
        ({"iterations": 0}, "iterations must be >= 1"),
        ({"bags": -1}, "bags must be >= 0"),
        ({"min_weight": 1.0}, "min_weight < 1"),
        ({"l2": -0.1}, "l2 >= 0"),
        ({"folds": 1}, "folds must be 0"),
        ({"calibration": "platt"}, "calibration must be one of temperature, vector, isotonic; got 'platt'"),
        ({"calibration": "vector", "calibrate": False}, "needs a classification metric and calibrate=True"),
        ({"calibration": "isotonic", "metric": "rmse"}, "needs a classification metric"),
        ({"diversity": 0.1, "method": "topk"}, "diversity is an option of greedy and convex"),
        ({"method": "log_pool", "metric": "mae"}, "log_pool needs probabilities"),
    ],
)
def test_nonsense_is_refused_by_name(values, said):
    with pytest.raises(ValueError, match=said):
        EnsembleSpec(**values)
