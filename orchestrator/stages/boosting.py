"""Boosting: the best configuration trained again and again on the rows that its forerunners got wrong, a tracked trial a stage.

The first stage is that configuration as the search trained it (all rows weigh the same); each later one trains on a bootstrap
drawn by weight. Its members join the pool like any other; the boosted ensemble is judged as a control of its own.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import Fitting
from orchestrator.stages.refit import SEED_STRIDE
from orchestrator.store.records import MemberRecord, TrialSpec
from orchestrator.store.workspace import write_atomic

if TYPE_CHECKING:
    from orchestrator.ensemble.boosting import Round
    from orchestrator.ensemble.ensemble import Ensemble

NAME = "boosted"


@dataclass(frozen=True)
class Boosted:
    """The stages that were kept, their weights in the vote, and why no further one followed."""

    member_ids: tuple[str, ...]
    weights: tuple[float, ...]
    errors: tuple[float, ...]
    stopped: str

    def predict(self, fitting: Fitting, split: str) -> NDArray[np.float32]:
        """Return the vote on a split that the bank holds: AdaBoost.R2's weighted median, or SAMME's calibrated vote."""
        from orchestrator.ensemble.boosting import weighted_median

        if not fitting.spec.regression:
            return fitting.combined(self.ensemble(fitting), split)
        values_MN = np.stack([fitting.bank.get(member, split)[:, 0] for member in self.member_ids])
        return weighted_median(values_MN, np.array(self.weights))[:, None].astype(np.float32)

    def ensemble(self, fitting: Fitting) -> Ensemble:
        """Return the vote as an ensemble, with temperatures from validation."""
        return fitting.given(self.member_ids, NAME, self.weights)


def run_boosting(fitting: Fitting) -> Boosted | None:
    """Train up to `ensemble.boost_rounds` stages after the first one; none asked, none returned; perhaps no stage is kept."""
    rounds = fitting.context.experiment.ensemble.boost_rounds
    if not rounds:
        return None
    from orchestrator.ensemble.boosting import stop_reason

    parent = fitting.parents()[0]
    fitting.context.say(f"boosting: up to {rounds} more trainings of {parent.trial_id}")
    weights_N = np.full(len(fitting.context.splits().train), 1.0)
    ids, weights, errors, losses = [], [], [], []
    for stage in range(rounds + 1):
        record = parent if stage == 0 else _train(fitting, parent, stage, weights_N)
        if not record.usable:
            stopped = f"stage {stage} failed"
            break
        found = _weigh(fitting, record, weights_N)
        weights_N = found.row_weights_N
        if found.member_weight > 0:
            ids.append(record.trial_id)
            weights.append(found.member_weight)
            errors.append(found.error)
            losses.append(_loss(fitting, Boosted(tuple(ids), tuple(weights), tuple(errors), "")))
        if reason := stop_reason(found, losses):
            stopped = reason
            break
    else:
        stopped = "all rounds are trained"
    best = int(np.argmin(losses)) + 1 if losses else 0
    return Boosted(tuple(ids[:best]), tuple(weights[:best]), tuple(errors[:best]), stopped)


def _train(fitting: Fitting, parent: MemberRecord, stage: int, weights_N: NDArray[np.float64]) -> MemberRecord:
    """Draw the stage's rows by weight, and train it on them."""
    context, trial_id = fitting.context, f"{parent.trial_id}-boost{stage}"
    rng = np.random.default_rng([fitting.seed, stage])
    rows = np.sort(rng.choice(len(weights_N), len(weights_N), p=weights_N / weights_N.sum())).astype(np.int64)
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    write_atomic(context.workspace.rows(trial_id), buffer.getvalue())
    changes = {"seed": parent.seed + stage * SEED_STRIDE, "rows_file": str(context.workspace.rows(trial_id))}
    spec = TrialSpec(trial_id, {**parent.config, **changes}, kind="boost", parent=parent.trial_id)
    return context.train([spec])[0]


def _weigh(fitting: Fitting, record: MemberRecord, weights_N: NDArray[np.float64]) -> Round:
    """Return the stage's weight in the vote, and the rows' weights for the next one."""
    from orchestrator.ensemble.boosting import r2_round, samme_round
    from orchestrator.search.predict_members import predict_split

    splits = fitting.context.splits()
    predict_split(fitting.context.workspace, fitting.context.data, [record.trial_id], "train")
    probs_NC, targets = fitting.bank.get(record.trial_id, "train"), splits.train.targets
    if fitting.spec.regression:
        return r2_round(weights_N, probs_NC[:, 0], targets.astype(np.float64))
    return samme_round(weights_N, probs_NC.argmax(axis=1) != targets, n_classes=splits.outputs)


def _loss(fitting: Fitting, boosted: Boosted) -> float:
    from orchestrator.ensemble.metrics import error_of

    return error_of("rmse" if fitting.spec.regression else "log_loss", boosted.predict(fitting, "val"), fitting.labels("val"))
