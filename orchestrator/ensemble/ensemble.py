"""A chosen ensemble: members, weights, temperatures and vote, and the one function that combines their predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats
from orchestrator.ensemble.calibration import Calibrator, apply_temperature, calibrator_from
from orchestrator.ensemble.metrics import REGRESSION
from orchestrator.ensemble.stacking import LinearHead
from orchestrator.ensemble.voting import VOTINGS, soft

FORMAT = 1


@dataclass(frozen=True)
class CrossFit:
    """What the whole procedure scores on validation rows that it did not see, beside the best single model's.

    Choosing the best of many on a set flatters it there (the winner's curse); `single_optimism` is by how much.
    """

    metric: str
    folds: int
    scores: Mapping[str, float]
    single_scores: Mapping[str, float]
    single_optimism: float
    difference: float
    low: float
    high: float
    """Ensemble minus best single in `metric`, with a 95% paired bootstrap interval."""


@dataclass(frozen=True)
class Ensemble:
    """K members and how to combine them; the same on every machine, since it is numbers only."""

    members: tuple[int, ...]
    """Their places in the pool that was given."""
    member_ids: tuple[str, ...]
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]
    """One a member, applied before the vote: p^(1/T), normalised."""
    temperature: float
    """Applied after the vote."""
    voting: str
    method: str
    metric: str
    trajectory: tuple[float, ...] = ()
    gap: float | None = None
    head: LinearHead | None = None
    """Takes the vote's place when the automatic choice was stacking."""
    calibrator: Calibrator | None = None
    """Applied last, where vector scaling or isotonic curves were asked for."""
    cross_fit: CrossFit | None = None
    notices: tuple[str, ...] = ()

    def combine(self, probs: Iterable[Floats]) -> NDArray[np.float32]:
        """One prediction [N, C] from the chosen members' raw predictions, in the order of `member_ids`.

        Regression: the weighted mean. Classification: each member's temperature, then the vote with the weights
        (soft: weighted mean; log: normalised geometric mean; hard: shares of votes), then the pooled temperature,
        then the calibrator if there is one.
        An iterable is taken one member at a time, so that a pool of thousands can be averaged.
        """
        if isinstance(probs, Sized) and len(probs) != len(self.member_ids):
            raise ValueError(f"the ensemble has {len(self.member_ids)} members; predictions of {len(probs)} came")
        weights_K = np.array(self.weights)
        if self.metric in REGRESSION:
            return soft(probs, weights_K)
        calibrated = (apply_temperature(p, t) for p, t in zip(probs, self.temperatures, strict=True))
        pooled_NC = self.head.combine(np.stack(list(calibrated))) if self.head else VOTINGS[self.voting](calibrated, weights_K)
        tempered_NC = apply_temperature(pooled_NC, self.temperature)
        return self.calibrator.apply(tempered_NC) if self.calibrator else tempered_NC

    def uncalibrated(self) -> Ensemble:
        """The same members and weights without any calibration (a head was fitted on calibrated members, which stay so)."""
        temperatures = self.temperatures if self.head else (1.0,) * len(self.temperatures)
        return replace(self, temperatures=temperatures, temperature=1.0, calibrator=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives the same ensemble back."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Ensemble:
        """The ensemble that `to_json` wrote, also after a round trip through text."""
        if stored.get("format") != FORMAT:
            raise ValueError(f"ensemble format {stored.get('format')!r} is unknown; this version reads format {FORMAT}")
        values: dict[str, Any] = {key: value for key, value in stored.items() if key != "format"}
        for key in ("members", "member_ids", "weights", "temperatures", "trajectory", "notices"):
            values[key] = tuple(values[key])
        if head := values["head"]:
            values["head"] = LinearHead(tuple(map(tuple, head["coefficients"])), tuple(head["intercept"]))
        values["calibrator"] = calibrator_from(values.get("calibrator"))
        if values["cross_fit"]:
            values["cross_fit"] = CrossFit(**values["cross_fit"])
        return cls(**values)
