"""What the searcher is told of a trial: its own score, or also what it brings to the ensemble of the trials before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orchestrator.context import Context
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord

if TYPE_CHECKING:
    from orchestrator.ensemble.gain import EnsembleGain
    from orchestrator.search.conductor import Worth

POOLED = ("baseline", "light", "trial")


def worth_of(context: Context) -> Worth | None:
    """Return the measure that `search.objective` names, from the live prediction bank; None for a trial's own score."""
    if context.experiment.search.objective == "own":
        return None
    from orchestrator.ensemble.gain import EnsembleGain

    bank = PredictionBank(context.workspace)
    gain: EnsembleGain | None = None

    def worth(record: MemberRecord) -> float:
        nonlocal gain
        gain = gain or EnsembleGain(bank.targets("val").astype(np.int64))
        _take_in(context, bank, gain, but=record.trial_id)
        return gain.loss(bank.get(record.trial_id, "val"))

    return worth


def _take_in(context: Context, bank: PredictionBank, gain: EnsembleGain, *, but: str) -> None:
    """Add what has ended since the last look (at the first look: everything that an earlier driver left)."""
    for path in context.workspace.members.glob("*/record.json"):
        name = path.parent.name
        if name == but or name in gain or not bank.has(name, "val"):
            continue
        record = context.workspace.load_record(name)
        if record.kind in POOLED and record.usable and record.status != "interrupted":
            gain.add(name, bank.get(name, "val"))
