"""The range test's suggestion lies where it should, also on cached features."""

from __future__ import annotations

import json

import pytest

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.tools.lr_find import find_lr, lr_facts, lr_figure


def test_lr_find_suggests_a_rate_between_standing_still_and_divergence(digits: Experiment) -> None:
    curve = find_lr(digits, low=1e-5, high=10.0, steps=40)
    assert curve.suggestion is not None
    assert 1e-4 < curve.suggestion < 1.0
    assert curve.smoothed[-1] > min(curve.smoothed)
    facts = json.loads(json.dumps(lr_facts(curve)))
    assert facts["suggestion"] == curve.suggestion
    (axes,) = lr_figure(curve).axes
    assert axes.get_xscale() == "log"
    with pytest.raises(UserError, match="at least 3 steps"):
        find_lr(digits, low=1.0, high=0.1)


def test_lr_find_works_on_cached_features(digits: Experiment) -> None:
    frozen = digits.model_copy(update={"train": {**digits.train, "finetune_depth": "head", "device": "cpu"}})
    assert len(find_lr(frozen, steps=5).rates) == 5
