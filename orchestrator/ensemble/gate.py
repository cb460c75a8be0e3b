"""The honest gate: paired intervals, exact McNemar, and the verdict whether an ensemble is worth its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Bools, Floats, Labels
from orchestrator.ensemble.metrics import METRICS, error_of, row_brier, row_correct, row_error, row_log_loss

GAIN, NO_GAIN, WORSE = "gain", "no gain", "worse"
ALPHA = 0.05
WORTHWHILE = 0.01
"""A gain must be at least this share of the reference's error: averaging one model's own noise gains a little, too."""
_CHUNK_BYTES = 32 << 20

ROW_SCORES: dict[str, Callable[[Floats, Labels], NDArray[np.float64]]] = {
    "accuracy": lambda probs, labels: row_correct(probs, labels).astype(np.float64),
    "log_loss": row_log_loss,
    "brier": row_brier,
    "mae": lambda preds, targets: np.abs(row_error(preds, targets)),
    "rmse": lambda preds, targets: row_error(preds, targets) ** 2,
}
"""Metrics that are a mean over rows (rmse: the root of one), so that a resample needs no new predictions."""


class Interval(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


def paired_difference(
    ours_NC: Floats, theirs_NC: Floats, labels_N: Labels, *, metric: str, seed: int, resamples: int = 2000
) -> Interval:
    """Metric of ours minus metric of theirs, with a percentile interval over resampled rows (the same for both).

    It covers the chance of the rows drawn, not that of training again.
    """
    function = METRICS[metric].function
    value = function(ours_NC, labels_N) - function(theirs_NC, labels_N)
    rng = np.random.default_rng(seed)
    if metric in ROW_SCORES:
        score = ROW_SCORES[metric]
        differences = _resampled_means(score(ours_NC, labels_N), score(theirs_NC, labels_N), metric, rng, resamples)
    else:
        draws = (rng.integers(0, len(labels_N), len(labels_N)) for _ in range(max(200, resamples // 4)))
        differences = np.array(
            [function(ours_NC[rows], labels_N[rows]) - function(theirs_NC[rows], labels_N[rows]) for rows in draws]
        )
    low, high = np.quantile(differences, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(value), float(low), float(high))


def _resampled_means(
    ours_N: NDArray[np.float64], theirs_N: NDArray[np.float64], metric: str, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    n_rows = len(ours_N)
    chunk = max(1, _CHUNK_BYTES // (8 * n_rows))
    parts = []
    for start in range(0, resamples, chunk):
        rows = rng.integers(0, n_rows, (min(chunk, resamples - start), n_rows))
        if metric == "rmse":
            parts.append(np.sqrt(ours_N[rows].mean(axis=1)) - np.sqrt(theirs_N[rows].mean(axis=1)))
        else:
            parts.append((ours_N - theirs_N)[rows].mean(axis=1))
    return np.concatenate(parts)


def mcnemar(ours_correct_N: Bools, theirs_correct_N: Bools) -> float:
    """Exact two-sided p-value that both are right equally often: a binomial test on the rows where just one is."""
    from scipy.stats import binomtest

    only_ours = int((ours_correct_N & ~theirs_correct_N).sum())
    only_theirs = int((theirs_correct_N & ~ours_correct_N).sum())
    if only_ours + only_theirs == 0:
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs, 0.5).pvalue)


@dataclass(frozen=True)
class Verdict:
    """Whether the ensemble beats the reference on these rows, and what to ship."""

    metric: str
    reference: str
    difference: float
    low: float
    high: float
    """Ensemble minus reference in `metric`, with its 95% interval."""
    mcnemar_p: float | None
    """Exact p-value on right against wrong; empty for regression."""
    verdict: str
    """"gain", "no gain" (the interval covers zero, or the gain is under one percent of the error) or "worse"."""
    recommended: str
    """"ensemble" after a gain, otherwise "single"."""


def decide(ours_NC: Floats, theirs_NC: Floats, labels_N: Labels, *, metric: str, reference: str, seed: int) -> Verdict:
    """The verdict on these rows.

    A gain needs an interval on the good side of zero, one percent of the reference's error, and, for accuracy,
    McNemar's consent.
    """
    interval = paired_difference(ours_NC, theirs_NC, labels_N, metric=metric, seed=seed)
    classes = ours_NC.shape[1] > 1
    p_value = mcnemar(row_correct(ours_NC, labels_N), row_correct(theirs_NC, labels_N)) if classes else None
    sign = 1.0 if METRICS[metric].greater_is_better else -1.0
    low, high = sorted((sign * interval.low, sign * interval.high))
    verdict = GAIN if low > 0 else WORSE if high < 0 else NO_GAIN
    worthwhile = sign * interval.value >= WORTHWHILE * error_of(metric, theirs_NC, labels_N)
    unproven = metric == "accuracy" and p_value is not None and p_value >= ALPHA
    if (verdict == GAIN and not worthwhile) or unproven:
        verdict = NO_GAIN
    recommended = "ensemble" if verdict == GAIN else "single"
    return Verdict(metric, reference, *interval, mcnemar_p=p_value, verdict=verdict, recommended=recommended)
