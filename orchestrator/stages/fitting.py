"""The members that an ensemble may choose from, and the ensembles fitted to them on validation alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config import Experiment
from orchestrator.context import Context
from orchestrator.errors import UserError
from orchestrator.stages.baseline import BASELINE_ID
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, ranked

if TYPE_CHECKING:
    from orchestrator.ensemble.build import EnsembleSpec
    from orchestrator.ensemble.ensemble import Ensemble

WHOLE = ("baseline", "trial", "refit")
"""Kinds that train on all rows: those of one configuration differ by their seed alone."""
CONTROL, STUDENT = "control", "student"
"""Kinds that are never candidates: seeds that complete a control, and what is trained towards an ensemble's answers."""


@dataclass(frozen=True)
class Fitting:
    """A run's prediction bank, and what its experiment asks of ensembles."""

    context: Context
    bank: PredictionBank
    spec: EnsembleSpec

    @classmethod
    def of(cls, context: Context) -> Fitting:
        """Return the fitting of an open run."""
        return cls(context, PredictionBank(context.workspace), ensemble_spec(context.experiment))

    @property
    def seed(self) -> int:
        """Return the experiment's seed."""
        return self.context.experiment.seed

    def labels(self, split: str) -> NDArray[Any]:
        """Return the targets of a split as the ensembling room takes them."""
        return self.bank.targets(split).astype(np.float64 if self.spec.regression else np.int64)

    def trained(self) -> list[MemberRecord]:
        """Return everyone who can predict: usable, with validation predictions and weights at hand."""
        workspace = self.context.workspace
        return [
            record
            for record in workspace.load_records()
            if record.usable and self.bank.has(record.trial_id, "val") and workspace.weights(record.trial_id).exists()
        ]

    def candidates(self) -> list[MemberRecord]:
        """Return the members an ensemble may choose: all but those that were trained because of one."""
        found = [record for record in self.trained() if record.kind not in (CONTROL, STUDENT)]
        if not found:
            raise UserError(
                f"{self.context.workspace.root}: no finished trial with weights here; run `orchestrate search` first"
            )
        return found

    def parents(self) -> list[MemberRecord]:
        """Return what the search itself trained to its end and may be trained again, best first; raises UserError for none."""
        from orchestrator.resolve import fixed_config, places_of

        trained = [r for r in self.candidates() if r.kind in ("trial", "baseline") and r.status != "interrupted"]
        if not trained:
            raise UserError(f"{self.context.workspace.root}: no finished trial here; run `orchestrate search` first")
        places = places_of(fixed_config(self.context.experiment))  # where files lie now, which may not be where they lay
        now = [record.replace(config={**record.config, **places}) for record in trained]
        return ranked(now, self.context.experiment.search.metric)

    def fit(self, pool: Sequence[MemberRecord], **changes: Any) -> Ensemble:
        """Choose, weigh and calibrate an ensemble from the pool, with some of what is asked changed."""
        from orchestrator.ensemble.build import fit_ensemble

        ids = [record.trial_id for record in pool]
        spec = dataclasses.replace(self.spec, **changes)
        return fit_ensemble(self._val(ids), self.labels("val"), spec=spec, member_ids=ids, seed=self.seed)

    def controls(self, pool: Sequence[MemberRecord], chosen: Ensemble) -> dict[str, Ensemble]:
        """Return the controls of the chosen ensemble by name."""
        from orchestrator.ensemble.build import fit_controls

        ids = [record.trial_id for record in pool]
        return fit_controls(
            self._val(ids), self.labels("val"), ensemble=chosen, spec=self.spec, member_ids=ids,
            baseline_id=BASELINE_ID, seed=self.seed,
        )  # fmt: skip

    def given(self, ids: Sequence[str], name: str, weights: Sequence[float] | None = None) -> Ensemble:
        """Return the ensemble of given members and weights (uniform), calibrated on validation."""
        return self.given_arrays(self._val(ids), ids, name, weights)

    def given_arrays(
        self, val_MNC: Sequence[NDArray[np.float32]], ids: Sequence[str], name: str, weights: Sequence[float] | None = None
    ) -> Ensemble:
        """Return the same for validation predictions that are not in the bank."""
        from orchestrator.ensemble.arrays import Members
        from orchestrator.ensemble.pool import scan
        from orchestrator.ensemble.procedure import weighted

        spec = self.spec
        pool = scan(Members.of(list(val_MNC)), self.labels("val"), metric=spec.metric, calibrate=spec.calibrate, seed=self.seed)
        shares = np.full(len(ids), 1 / len(ids)) if weights is None else np.asarray(weights, dtype=np.float64)
        found = weighted(pool, range(len(ids)), shares, method=name, spec=spec)
        return dataclasses.replace(found, member_ids=tuple(ids))

    def combined(self, ensemble: Ensemble, split: str) -> NDArray[np.float32]:
        """Return an ensemble's predictions of a split that the bank holds for its members."""
        return ensemble.combine([self.bank.get(member, split) for member in ensemble.member_ids])

    def _val(self, ids: Sequence[str]) -> list[NDArray[np.float32]]:
        return [self.bank.get(trial_id, "val") for trial_id in ids]


def ensemble_spec(experiment: Experiment) -> EnsembleSpec:
    """Return what the ensembling room is asked for."""
    from orchestrator.ensemble.build import EnsembleSpec

    section = experiment.ensemble
    metric = {"loss": "rmse" if experiment.data.task == "regression" else "log_loss"}.get(
        experiment.search.metric, experiment.search.metric
    )
    return EnsembleSpec(
        method=section.method, metric=metric, select_by=section.metric, voting=section.voting, max_members=section.max_members,
        iterations=section.iterations, diversity=section.diversity, calibrate=section.calibrate,
        calibration=section.calibration,
    )  # fmt: skip
