"""The ledger of improvement: each step from the baseline to the calibrated ensemble, what it changed and what it was worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import LOWER_IS_BETTER, MemberRecord
from orchestrator.store.workspace import Workspace

Floats = NDArray[np.floating[Any]]
RESAMPLES = 2000
CHUNK = 100
"""Resamples drawn at a time, which bounds memory."""
SMALLEST = 2.0**-24
NOT_SHOWN = frozenset({"seed", "row_seed", "device", "workers", "eval_batch_size", "compile", "memory_format"})
"""Knobs that are no improvement's cause."""


@dataclass(frozen=True)
class Step:
    """One step: its name, what it changed in words, and its predictions [N, K] (regression: values [N, 1])."""

    name: str
    changed: str
    predictions: Floats


def ledger(steps: Sequence[Step], labels: NDArray[Any], *, split: str, seed: int) -> list[dict[str, Any]]:
    """Return a JSON-ready row a step: scores, each with a 95 % interval, and the difference to the step before it.

    Row: {"step", "changed", "split", "n", "scores": {metric: [value, low, high]}, "deltas": {metric: [value, low, high]}}. All
    intervals come from the same paired bootstrap (2,000 resamples of the rows of `labels` [N]), so that a difference is
    measured on the same images in both steps; the first step has no deltas.
    """
    regression = bool(steps) and steps[0].predictions.shape[1] == 1
    losses = [_regression_losses(s.predictions, labels) if regression else _losses(s.predictions, labels) for s in steps]
    resampled = [_resampled(loss, seed=seed) for loss in losses]
    rows = []
    for place, step in enumerate(steps):
        now, before = (losses[place], resampled[place]), (losses[place - 1], resampled[place - 1])
        scores = {metric: _interval(_value(metric, now[0][metric].mean()), now[1][metric]) for metric in now[0]}
        deltas = {
            metric: _interval(
                _value(metric, now[0][metric].mean()) - _value(metric, before[0][metric].mean()),
                now[1][metric] - before[1][metric],
            )
            for metric in (now[0] if place else ())
        }
        rows.append(
            {"step": step.name, "changed": step.changed, "split": split, "n": len(labels), "scores": scores, "deltas": deltas}
        )
    return rows


def _losses(probabilities: Floats, labels: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return what each row adds to accuracy and log-loss, [N] each."""
    of_label = probabilities[np.arange(len(labels)), labels.astype(np.int64)].astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return {"accuracy": right, "log_loss": -np.log(np.maximum(of_label, SMALLEST))}


def _regression_losses(values: Floats, targets: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return what each row adds to the mean squared and the mean absolute error, [N] each."""
    off = values[:, 0].astype(np.float64) - targets
    return {"rmse": off**2, "mae": np.abs(off)}


def _value(metric: str, mean: Any) -> Any:
    return np.sqrt(mean) if metric == "rmse" else mean


def _resampled(losses: Mapping[str, NDArray[np.float64]], *, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return each metric on `RESAMPLES` resamples of the rows; the same rows for the same seed and N."""
    table = np.stack(list(losses.values()), axis=1)
    rng, n, means = np.random.default_rng(seed), len(table), []
    for _ in range(RESAMPLES // CHUNK):
        means.append(rng.multinomial(n, np.full(n, 1 / n), size=CHUNK) @ table / n)
    stacked = np.concatenate(means)
    return {metric: _value(metric, stacked[:, place]) for place, metric in enumerate(losses)}


def _interval(value: Any, draws: NDArray[np.float64]) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(value), float(low), float(high)]


def from_judgement(found: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ledger that the judgement's table gives: baseline, best single, ensemble; `configs` are by trial id.

    The table compares everything with the best single model, so the step from the baseline to it is the baseline's difference
    turned round.
    """
    judged = found.get("judgement") or {}
    rows = {row.get("name"): row for row in judged.get("rows", ())}
    metrics = ("rmse", "mae") if "rmse" in next(iter(rows.values()), {}) else ("accuracy", "log_loss")
    base = {"split": judged.get("split", ""), "n": judged.get("n", 0)}
    steps: list[dict[str, Any]] = []
    for name, changed, of in (
        ("baseline", "plain training", None),
        ("best single", _found_by_search(found, configs), _turned(rows.get("baseline"), metrics)),
        ("ensemble", ensemble_in_words(found.get("ensemble") or {}), _differences(rows.get("ensemble"), metrics)),
    ):
        if name in rows:
            scores = {metric: _scored(rows[name], metric) for metric in metrics if rows[name].get(metric) is not None}
            steps.append({"step": name, "changed": changed, **base, "scores": scores, "deltas": of if steps and of else {}})
    return steps


def _found_by_search(found: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what sets the best single model apart from the baseline, where both are known."""
    controls = found.get("controls") or {}
    baseline, single = (configs.get((controls.get(name) or [""])[0]) for name in ("baseline", "best single"))
    return changed_knobs(baseline, single) if baseline and single else "the search"


def _scored(row: Mapping[str, Any], metric: str) -> list[float | None]:
    return [row[metric], row.get(f"{metric}_low"), row.get(f"{metric}_high")]


def _differences(row: Mapping[str, Any] | None, metrics: Sequence[str]) -> dict[str, list[float]]:
    ends = ("", "_low", "_high")
    return {
        metric: [row[f"{metric}_difference{end}"] for end in ends]
        for metric in metrics
        if row and all(row.get(f"{metric}_difference{end}") is not None for end in ends)
    }


def _turned(row: Mapping[str, Any] | None, metrics: Sequence[str]) -> dict[str, list[float]]:
    return {metric: [-value, -high, -low] for metric, (value, low, high) in _differences(row, metrics).items()}


def ensemble_in_words(ensemble: Mapping[str, Any]) -> str:
    """Return an ensemble in a few words: "4 members, greedy, soft vote"."""
    members, method = ensemble.get("members", ()), ensemble.get("method", "")
    words = [f"{len(members)} member{'s' * (len(members) != 1)}", str(method), f"{ensemble.get('voting', 'soft')} vote"]
    return ", ".join(word for word in words if word)


def search_ledger(workspace: Workspace, records: Sequence[MemberRecord], metric: str, *, seed: int) -> list[dict[str, Any]]:
    """Return the ledger of the search on validation: the baseline, then each trial that beat all before it, and its knobs.

    Trials count in the order of their ids. Members without kept validation predictions are passed over.
    """
    bank = PredictionBank(workspace)
    if not workspace.targets("val").exists():
        return []
    labels = bank.targets("val")
    order = sorted(records, key=lambda record: (record.kind != "baseline", record.trial_id))
    usable = [r for r in order if r.kind in ("baseline", "trial") and r.usable and bank.has(r.trial_id, "val")]
    leaders = improving(usable, lambda record: record.score(metric), lower=metric in LOWER_IS_BETTER)
    steps = [
        Step(record.trial_id, changed_knobs(leaders[place - 1].config, record.config) if place else "first", predictions)
        for place, record in enumerate(leaders)
        if len(predictions := bank.get(record.trial_id, "val")) == len(labels)
    ]
    return ledger(steps, labels, split="val", seed=seed)


def improving(records: Sequence[MemberRecord], score: Callable[[MemberRecord], float], *, lower: bool) -> list[MemberRecord]:
    """Return the records that beat every one before them; a NaN never does."""
    best, leaders = float("-inf"), []
    for record in records:
        value = -score(record) if lower else score(record)
        if value > best:
            best = value
            leaders.append(record)
    return leaders


def changed_knobs(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the knobs that differ, as "lr 0.001 -> 0.0031, augmentation none -> crop_flip"."""
    keys = [key for key in after if key not in NOT_SHOWN and before.get(key) != after[key]]
    return ", ".join(f"{key} {_short(before.get(key))} -> {_short(after[key])}" for key in sorted(keys)) or "another seed"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
