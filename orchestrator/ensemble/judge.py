"""The table of an ensemble and its controls on given predictions (validation or test), and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.controls import SINGLE
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.gate import Interval, Verdict, decide, paired_difference
from orchestrator.ensemble.metrics import CLASSIFICATION, METRICS, REGRESSION, row_correct, wilson_interval

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Row:
    """One candidate's scores."""

    name: str
    n_members: int
    scores: Mapping[str, float]
    """By metric name: all of classification, or of regression."""
    accuracy_interval: tuple[float, float] | None
    """Wilson's 95% interval; empty for regression."""
    differences: Mapping[str, Interval]
    """By metric: this minus the reference, with a paired 95% interval; empty for the reference itself."""

    def to_json(self) -> dict[str, Any]:
        """A flat row: name, n_members, every score, accuracy_low/high, <metric>_difference/_low/_high."""
        flat: dict[str, Any] = {"name": self.name, "n_members": self.n_members, **self.scores}
        if self.accuracy_interval:
            flat["accuracy_low"], flat["accuracy_high"] = self.accuracy_interval
        for metric, interval in self.differences.items():
            flat[f"{metric}_difference"] = interval.value
            flat[f"{metric}_difference_low"], flat[f"{metric}_difference_high"] = interval.low, interval.high
        return flat


@dataclass(frozen=True)
class Judgement:
    """The table, the verdict on the ensemble, and the candidates whose predictions were not there."""

    rows: tuple[Row, ...]
    verdict: Verdict
    n_rows: int
    skipped: tuple[str, ...]

    def row(self, name: str) -> Row:
        """A row by its name."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "verdict": asdict(self.verdict),
            "n_rows": self.n_rows,
            "skipped": list(self.skipped),
        }


def judge(
    ensemble: Ensemble,
    controls: Mapping[str, Ensemble],
    predictions: Mapping[str, Floats],
    labels: NDArray[np.generic],
    *,
    seed: int,
    extra: Mapping[str, Floats] | None = None,
    reference: str = SINGLE,
) -> Judgement:
    """Scores an ensemble and its controls on the same rows, each against the reference by paired resampling.

    Args:
        ensemble: what was chosen on validation.
        controls: by name; the reference is one of them. Those with a member missing from `predictions` are skipped.
        predictions: raw predictions [N, C] by member id.
        labels: [N].
        seed: of the resampling.
        extra: ready predictions [N, C] of further rows, such as the best single model under test-time augmentation.
        reference: the control that the verdict is about.
    """
    missing = [member for member in ensemble.member_ids if member not in predictions]
    if missing or reference not in controls:
        raise ValueError(f"the judgement needs predictions of every member and the control {reference!r}; missing {missing}")
    candidates = {ENSEMBLE: ensemble, **controls}
    usable = {name: e for name, e in candidates.items() if all(member in predictions for member in e.member_ids)}
    if reference not in usable:
        raise ValueError(f"the predictions of {reference!r} ({controls[reference].member_ids}) are missing")
    combined = {name: e.combine(predictions[m] for m in e.member_ids) for name, e in usable.items()}
    sizes = {name: len(e.member_ids) for name, e in usable.items()}
    for name, probs_NC in (extra or {}).items():
        combined[name], sizes[name] = np.asarray(probs_NC, dtype=np.float32), 1
    regression = ensemble.metric in REGRESSION
    labels_N: Labels = labels.astype(np.float64 if regression else np.int64)
    rows = tuple(
        _row(
            name,
            sizes[name],
            combined[name],
            None if name == reference else combined[reference],
            labels_N,
            ensemble.metric,
            seed,
        )
        for name in combined
    )
    verdict = decide(combined[ENSEMBLE], combined[reference], labels_N, metric=ensemble.metric, reference=reference, seed=seed)
    return Judgement(rows, verdict, len(labels_N), tuple(name for name in candidates if name not in usable))


def _row(
    name: str,
    n_members: int,
    probs_NC: Floats,
    reference_NC: Floats | None,
    labels_N: Labels,
    metric: str,
    seed: int,
) -> Row:
    regression = metric in REGRESSION
    names = REGRESSION if regression else CLASSIFICATION
    interval = None
    if not regression:
        interval = wilson_interval(int(row_correct(probs_NC, labels_N).sum()), len(labels_N))
    differences = {}
    if reference_NC is not None:
        compared = dict.fromkeys([metric, *(("rmse",) if regression else ("accuracy", "log_loss"))])
        differences = {key: paired_difference(probs_NC, reference_NC, labels_N, metric=key, seed=seed) for key in compared}
    return Row(name, n_members, {key: METRICS[key].function(probs_NC, labels_N) for key in names}, interval, differences)
