"""The judgement in words and rows: what `ensemble.json` says of the ensemble beside its controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import Fitting

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble
    from orchestrator.ensemble.gate import Verdict
    from orchestrator.ensemble.judge import Judgement

WORDS = {
    "gain": "the ensemble is better than the best single model",
    "no gain": "no gain: {why}; the single model is recommended",
    "worse": "worse than the best single model, which is recommended",
}


@dataclass
class Entrants:
    """Who is judged: the ensemble, its controls, and ready predictions of others (by split) with their member counts."""

    chosen: Ensemble
    controls: dict[str, Ensemble]
    ready: dict[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add_ready(self, name: str, predictions: Mapping[str, NDArray[np.float32]], members: int) -> None:
        """Add one whose predictions of "val" and "test" are there."""
        self.ready[name], self.sizes[name] = predictions, members

    @property
    def member_ids(self) -> list[str]:
        """Return everyone whose predictions are needed."""
        return sorted({member for one in (self.chosen, *self.controls.values()) for member in one.member_ids})


def judged(fitting: Fitting, entrants: Entrants, split: str) -> dict[str, Any]:
    """Return the table of a split that the bank holds for all members."""
    from orchestrator.ensemble.judge import judge

    found = judge(
        entrants.chosen, entrants.controls, {m: fitting.bank.get(m, split) for m in entrants.member_ids},
        fitting.bank.targets(split), seed=fitting.seed, extra={name: by[split] for name, by in entrants.ready.items()},
    )  # fmt: skip
    return table(found, split, entrants.sizes)


def table(judgement: Judgement, split: str, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return a judgement as rows with one difference each, the verdict's metric's, and the verdict in words."""
    verdict = judgement.verdict
    rows = []
    for row in judgement.rows:
        flat = row.to_json()
        for end, ours in (("", "delta"), ("_low", "delta_low"), ("_high", "delta_high")):
            flat[ours] = flat.get(f"{verdict.metric}_difference{end}")
        rows.append({**flat, "members": (sizes or {}).get(row.name, flat.pop("n_members"))})
    words = WORDS[verdict.verdict].format(why=_why_no_gain(verdict))
    text = f"{words} ({verdict.metric} {verdict.difference:+.4f}, 95% [{verdict.low:+.4f}, {verdict.high:+.4f}])"
    return {
        "split": split,
        "n": judgement.n_rows,
        "rows": rows,
        "verdict": {
            "gain": verdict.verdict == "gain", "text": text, "recommended": verdict.recommended, "metric": verdict.metric,
            "difference": verdict.difference, "low": verdict.low, "high": verdict.high, "mcnemar_p": verdict.mcnemar_p,
        },
    }  # fmt: skip


def calibration_facts(fitting: Fitting, chosen: Ensemble, split: str) -> dict[str, Any]:
    """Return log-loss, Brier score and ECE (bins of equal mass) of the ensemble's weights without and with its calibration.

    Where more than a temperature was asked for, also with the temperature alone. Nothing where nothing was calibrated.
    """
    from orchestrator.ensemble.metrics import METRICS

    if fitting.spec.regression or not fitting.spec.calibrate:
        return {}
    labels = fitting.bank.targets(split)

    def scores(ensemble: Ensemble) -> dict[str, float]:
        probs = fitting.combined(ensemble, split)
        return {name: METRICS[name].function(probs, labels) for name in ("log_loss", "brier", "ece")}

    steps = {"before": chosen.uncalibrated(), "after": chosen}
    if chosen.calibrator is not None:
        steps = {"before": steps["before"], "temperature": dataclasses.replace(chosen, calibrator=None), "after": chosen}
    return {"method": fitting.spec.calibration, "split": split, **{when: scores(one) for when, one in steps.items()}}


def _why_no_gain(verdict: Verdict) -> str:
    """Return what a gain lacks: an interval clear of zero, McNemar's consent, or enough size."""
    from orchestrator.ensemble.gate import ALPHA, WORTHWHILE

    if verdict.low <= 0 <= verdict.high:
        return "the interval covers zero"
    if verdict.metric == "accuracy" and verdict.mcnemar_p is not None and verdict.mcnemar_p >= ALPHA:
        return f"McNemar's test does not agree (p = {verdict.mcnemar_p:.2f})"
    return f"it is under {WORTHWHILE:.0%} of the single model's error"


def diversity_facts(members: Sequence[NDArray[np.float32]], weights: Sequence[float], labels: NDArray[Any]) -> dict[str, Any]:
    """Return how differently members err, what that is worth, and what independence would have made of it.

    `members` are calibrated predictions [K, N, C]. Ensemble loss = mean loss of members - ambiguity, exactly; the error of an
    independent majority is p = sum over k > K/2 of C(K, k) e^k (1 - e)^(K - k) at the members' mean error e.
    """
    from orchestrator.ensemble.diversity import diversity, log_loss_ambiguity, squared_error_ambiguity
    from orchestrator.ensemble.voting import hard, independent_majority_error

    if len(members) < 2:
        return {}
    regression = members[0].shape[1] == 1
    parts = (squared_error_ambiguity if regression else log_loss_ambiguity)(members, np.array(weights), labels)
    loss = "squared_error" if regression else "log_loss"
    priced = {
        f"{loss}_of_the_weighted_mean": parts.ensemble, f"mean_{loss}_of_members": parts.members, "ambiguity": parts.ambiguity,
    }  # fmt: skip
    if regression:
        return priced
    found = diversity(members, labels)
    error = float(found.error_rates.mean())
    return {
        **found.to_json(), **priced, "mean_error_of_members": error,
        "majority_error_if_independent": independent_majority_error(len(members), error),
        "majority_error_observed": float((hard(members).argmax(axis=1) != labels).mean()),
    }  # fmt: skip
