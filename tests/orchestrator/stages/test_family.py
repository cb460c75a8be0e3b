"""The cost-aware family: its rows, its front, the cascade, and what a latency limit exports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.errors import UserError
from orchestrator.stages.export import milliseconds, within
from orchestrator.stages.family import latency_ms


def test_the_family_is_measured_cheapest_first(bagged_run: Any) -> None:
    family = bagged_run.found["family"]
    assert {"best single", "ensemble", "cascade"} <= {row["name"] for row in family}
    costs = [row["latency_ms_batch_1"] for row in family]
    assert costs == sorted(costs)
    assert all(row["latency_ms_batch_64"] > 0 and row["size_mb"] > 0 for row in family)


def test_nothing_on_the_front_is_beaten_in_both(bagged_run: Any) -> None:
    family = bagged_run.found["family"]
    metric = family[0]["metric"]
    sign = -1 if metric in ("log_loss", "brier") else 1
    for row in family:
        beaten = any(
            sign * other["score"] > sign * row["score"] and other["latency_ms_batch_1"] <= row["latency_ms_batch_1"]
            for other in family
        )
        assert not (row["pareto"] and beaten)


def test_the_cascade_keeps_the_ensembles_validation_accuracy(bagged_run: Any) -> None:
    rows = {row["name"]: row for row in bagged_run.found["validation"]["rows"]}
    assert rows["cascade"]["accuracy"] >= rows["ensemble"]["accuracy"]
    cascade = next(row for row in bagged_run.found["family"] if row["name"] == "cascade")
    assert 0 <= cascade["answered_first"]["test"] <= 1


FAMILY = [
    {"name": "best single", "score": 0.90, "latency_ms_batch_1": 1.0, "metric": "accuracy", "ensemble": {"of": 1}},
    {"name": "cascade", "score": 0.96, "latency_ms_batch_1": 2.0, "metric": "accuracy", "ensemble": None},
    {"name": "three members", "score": 0.95, "latency_ms_batch_1": 3.0, "metric": "accuracy", "ensemble": {"of": 3}},
    {"name": "ensemble", "score": 0.94, "latency_ms_batch_1": 8.0, "metric": "accuracy", "ensemble": {"of": 8}},
]


@pytest.mark.parametrize(
    ("limit", "name"), [(1.0, "best single"), (2.9, "best single"), (3.0, "three members"), (99.0, "three members")]
)
def test_a_limit_picks_the_best_score_within_it(limit: float, name: str) -> None:
    assert within(FAMILY, limit)[0] == name


def test_a_limit_below_everything_names_what_was_measured() -> None:
    with pytest.raises(UserError, match=r"at most 0.5 ms; measured: best single 1.00 ms, three members 3.00 ms"):
        within(FAMILY, 0.5)


@pytest.mark.parametrize(("text", "value"), [("5ms", 5.0), ("0.2 s", 200.0), ("800us", 0.8)])
def test_latencies_are_read_with_their_unit(text: str, value: float) -> None:
    assert milliseconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "fast", "-1ms", "0ms", ""])
def test_other_latencies_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--max-latency: got"):
        milliseconds(text)


def test_latency_takes_batches_larger_than_the_images() -> None:
    import torch

    seen: list[int] = []

    class Counting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images

    assert latency_ms(Counting(), np.zeros((3, 2, 2, 1), dtype=np.uint8), 64) >= 0
    assert set(seen) == {64}
    assert len(seen) >= 4
