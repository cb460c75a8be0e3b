"""The control with test-time augmentation: views predicted once each give what the whole model gives, and it says how long."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import numpy as np
import pytest

from orchestrator.deliver.export import load_member
from orchestrator.deliver.graph import live_probabilities
from orchestrator.search import predict_members
from orchestrator.stages.countdown import Countdown, still_running
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.tta import allowed_views, seen_through


def test_views_that_flip_are_not_tried_where_flips_are_forbidden(bagged_run: Any) -> None:
    assert allowed_views(Fitting.of(bagged_run.context)) == ["crops", "scales"]
    assert bagged_run.found["tta"] in ("crops", "scales")


@pytest.mark.parametrize("own", ["none", "flip"])
def test_each_option_is_the_model_with_that_augmentation_and_no_view_is_predicted_twice(
    bagged_run: Any, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    fitting = Fitting.of(bagged_run.context)
    workspace, splits = fitting.context.workspace, fitting.context.splits()
    record = workspace.load_record("baseline")
    record = record.replace(config={**record.config, "tta": own})
    passes: list[int] = []
    predict = predict_members.predict_module

    def counted(module: Any, images: Any, **options: Any) -> Any:
        passes.append(len(images))
        return predict(module, images, **options)

    monkeypatch.setattr(predict_members, "predict_module", counted)
    found = seen_through(fitting, record, ["crops", "scales"], "val")
    for name, probs in found.items():
        seen = record.replace(config={**record.config, "tta": name})
        whole = live_probabilities(load_member(seen, workspace.weights("baseline"), splits), splits.val.images)
        np.testing.assert_allclose(probs, whole, atol=1e-3)
    assert len(passes) == 6 + (own != "none"), "four corners, the centre, the zoom; the plain view is in the bank"


def test_a_countdown_says_little_and_says_what_is_left() -> None:
    said: list[str] = []
    now = iter([0.0, 1.0, 20.0, 21.0, 40.0])
    countdown = Countdown(said.append, "test split", 400, clock=lambda: next(now))
    for _ in range(4):
        countdown(100)
    assert said == ["test split: 200 of 400 predictions, about 20 s left"]


def test_what_runs_on_is_said_until_it_is_over() -> None:
    said, twice = list[str](), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            twice.set()
            raise BrokenPipeError

    with still_running(say, "export", every_s=0.02):
        assert twice.wait(30)
    count = len(said)
    assert all(re.fullmatch(r"export: \d+ s so far", line) for line in said)
    time.sleep(0.1)
    assert len(said) == count
