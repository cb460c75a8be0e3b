"""The cost-aware family: best single, soup, student, three members and the full ensemble, with measured latency and size.

Scores that choose are validation's. The cascade asks the best single model first and the full ensemble where it is unsure.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import Fitting
from orchestrator.stages.soups import SOUPS
from orchestrator.stages.student import run_student
from orchestrator.store.records import mode_of

if TYPE_CHECKING:
    from torch import nn

    from orchestrator.ensemble.ensemble import Ensemble

CASCADE = "cascade"
SMALL, SMALL_NAME = 3, "three members"
BATCHES = (1, 64)
REPEATS, SECONDS = (3, 30), 0.5
"""Fewest and most repeats of a timing, which ends after so many seconds between them."""


def relatives(fitting: Fitting, chosen: Ensemble, single: Ensemble) -> dict[str, Ensemble]:
    """Return the family by name: best single, kept soups, student, three members where there are more, and the ensemble."""
    pool = fitting.candidates()
    ids = {record.trial_id for record in pool}
    found = {"best single": single}
    found |= {name: fitting.given([trial_id], name) for name, trial_id in SOUPS.items() if trial_id in ids}
    found |= run_student(fitting, chosen)
    if len(chosen.member_ids) > SMALL:
        found[SMALL_NAME] = fitting.fit(pool, max_members=SMALL, folds=0)
    return {**found, "ensemble": chosen}


class Cascaded(NamedTuple):
    """The cascade's threshold, its predictions and share of rows that end at the first stage, by split."""

    threshold: float
    predictions: dict[str, NDArray[np.float32]]
    answered_first: dict[str, float]


def cascaded(fitting: Fitting, single: Ensemble, chosen: Ensemble) -> Cascaded | None:
    """Return the cascade single -> ensemble with the cheapest threshold that keeps validation accuracy; none for regression."""
    from orchestrator.ensemble.cheap import cascade, cascade_threshold

    if fitting.spec.regression or len(chosen.member_ids) < 2:
        return None
    stages = {split: [fitting.combined(one, split) for one in (single, chosen)] for split in ("val", "test")}
    costs = (1.0, float(len(chosen.member_ids)))
    threshold = cascade_threshold(stages["val"], costs, fitting.labels("val"))
    run = {split: cascade(probs, costs, threshold=threshold) for split, probs in stages.items()}
    return Cascaded(
        threshold,
        {split: found.probs_NC for split, found in run.items()},
        {split: float((found.stage_N == 0).mean()) for split, found in run.items()},
    )


def measure(fitting: Fitting, family: Mapping[str, Ensemble]) -> dict[str, dict[str, Any]]:
    """Return latency (median milliseconds of a batch of 1 and of 64 on the CPU) and megabytes of weights of each."""
    from orchestrator.deliver.export import load_member
    from orchestrator.deliver.graph import EnsembleModule, Vote

    splits, workspace = fitting.context.splits(), fitting.context.workspace
    ids = dict.fromkeys(member for one in family.values() for member in one.member_ids)
    modules = {i: load_member(workspace.load_record(i), workspace.weights(i), splits) for i in ids}
    found = {}
    for name, one in family.items():
        module = EnsembleModule(
            [modules[i] for i in one.member_ids], Vote.from_dict(voting_json(one)), regression=fitting.spec.regression
        )
        size = sum(workspace.weights(i).stat().st_size for i in one.member_ids) / 1e6
        timed = {f"latency_ms_batch_{batch}": latency_ms(module, splits.val.images, batch) for batch in BATCHES}
        found[name] = {**timed, "size_mb": size}
    return found


def latency_ms(module: nn.Module, images: NDArray[np.uint8], batch: int) -> float:
    """Return the median milliseconds of one forward pass of a batch of stored images, after one that warms up."""
    import torch

    given = torch.from_numpy(np.ascontiguousarray(images[np.arange(batch) % len(images)]))
    taken: list[float] = []
    fewest, most = REPEATS
    with torch.no_grad():
        module.eval()(given)
        while len(taken) < fewest or (len(taken) < most and sum(taken) < SECONDS):
            started = time.perf_counter()
            module(given)
            taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


def describe_family(
    fitting: Fitting, family: Mapping[str, Ensemble], measured: Mapping[str, Mapping[str, Any]], found: Cascaded | None
) -> list[dict[str, Any]]:
    """Return one row a relative, cheapest first: cost, validation score, whether nothing beats it in both, how it votes."""
    from orchestrator.ensemble.cheap import pareto_front

    rows = [
        {"name": name, **measured[name], "score": _score(fitting, fitting.combined(one, "val")), "ensemble": voting_json(one)}
        for name, one in family.items()
    ]
    if found is not None:
        once, twice = (measured[name] for name in ("best single", "ensemble"))
        costs = {key: once[key] + (1 - found.answered_first["val"]) * twice[key] for key in once if key.startswith("latency")}
        rows.append({
            "name": CASCADE, **costs, "size_mb": twice["size_mb"] + once["size_mb"], "threshold": found.threshold,
            "score": _score(fitting, found.predictions["val"]), "answered_first": found.answered_first, "ensemble": None,
        })  # fmt: skip
    sign = 1.0 if mode_of(fitting.spec.metric) == "max" else -1.0
    costs_R = [row["latency_ms_batch_1"] for row in rows]
    front = pareto_front([sign * row["score"] for row in rows], costs_R)
    said = [{**row, "metric": fitting.spec.metric, "pareto": place in front} for place, row in enumerate(rows)]
    return [said[place] for place in np.argsort(costs_R, kind="stable")]


def voting_json(ensemble: Ensemble) -> dict[str, Any]:
    """Return an ensemble as JSON whose members are named by trial, with weight and temperature each."""
    members = [
        {"trial_id": i, "weight": w, "temperature": t}
        for i, w, t in zip(ensemble.member_ids, ensemble.weights, ensemble.temperatures, strict=True)
    ]
    return {**ensemble.to_json(), "members": members}


def _score(fitting: Fitting, probs_NC: NDArray[np.float32]) -> float:
    from orchestrator.ensemble.metrics import METRICS

    return METRICS[fitting.spec.metric].function(probs_NC, fitting.labels("val"))
