"""The range test's suggestion lies where it should, also on cached features."""

from __future__ import annotations

import json

import pytest

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.setup.check import load_data
from orchestrator.tools.lr_find import find_lr, lr_facts, lr_figure, stepper
from trainables.config import TrainConfig
from trainables.image_model import ImageModel


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
    knobs = {
        "model": "cifar_resnet",
        "depth": 8,
        "width": 8,
        "finetune_depth": "head",
        "device": "cpu",
        "lr": 1.0,
        "dropout": 0.0,
    }
    model = ImageModel(TrainConfig.from_dict(knobs), load_data(digits))
    assert model.features
    step = stepper(model)
    losses = [step(1e-2) for _ in range(2 * model.steps + 1)]
    assert model.epoch == 2, "one epoch follows another"
    assert sum(losses[model.steps :]) / (model.steps + 1) < sum(losses[: model.steps]) / model.steps
