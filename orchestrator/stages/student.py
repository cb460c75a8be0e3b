"""The distilled student: one network of the best configuration trained towards the ensemble's answers (Hinton et al. 2015).

It costs what a single model costs to run, and stands in the family beside the ensemble. It is never a candidate: an ensemble
that held its own student would be another ensemble.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.countdown import Countdown
from orchestrator.stages.fitting import STUDENT, Fitting
from orchestrator.store.records import MemberRecord, TrialSpec
from orchestrator.store.workspace import write_atomic

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble

NAME = "distilled"


def run_student(fitting: Fitting, chosen: Ensemble) -> dict[str, Ensemble]:
    """Train the ensemble's student where `ensemble.student` asks for it; returns it by name, calibrated, or nothing."""
    if not fitting.context.experiment.ensemble.student or len(chosen.member_ids) < 2:
        return {}
    record = _train(fitting, _answers(fitting, chosen))
    if not record.usable:
        reason = (record.stop_reason or record.error or "no epoch").splitlines()[0]
        fitting.context.say(f"{NAME}: the student {record.status} ({reason}); the family goes without")
        return {}
    return {NAME: fitting.given([record.trial_id], NAME)}


def _answers(fitting: Fitting, chosen: Ensemble) -> NDArray[np.float32]:
    """Return what the student is trained towards, for every training row: the ensemble's calibrated probabilities, or values.

    Softened by a further temperature, or mixed with the labels, they taught no better where it was measured.
    """
    from orchestrator.search.predict_members import predict_split

    context, train = fitting.context, fitting.context.splits().train
    countdown = Countdown(context.say, "the teacher's answers", len(chosen.member_ids) * len(train))
    predict_split(context.workspace, context.data, chosen.member_ids, "train", heard=countdown)
    answers = fitting.combined(chosen, "train")
    return answers[:, 0] if fitting.spec.regression else answers


def _train(fitting: Fitting, answers: NDArray[np.float32]) -> MemberRecord:
    """Train the best configuration towards the answers; a student of the same answers is there already."""
    context, best = fitting.context, fitting.parents()[0]
    buffer = io.BytesIO()
    np.save(buffer, answers, allow_pickle=False)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    trial_id = f"{best.trial_id}-{NAME}-{digest}"
    file = context.workspace.teacher(trial_id)
    write_atomic(file, buffer.getvalue())
    context.say(f"{NAME}: one more training of {best.trial_id}, towards the ensemble's answers")
    spec = TrialSpec(trial_id, {**best.config, "teacher_file": str(file)}, kind=STUDENT, parent=best.trial_id)
    return context.train([spec])[0]
