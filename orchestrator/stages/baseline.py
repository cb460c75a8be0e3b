"""Baseline: one plain model without regularisation or augmentation, whose score everything later must beat."""

from __future__ import annotations

from orchestrator.context import Context
from orchestrator.errors import RunFailed
from orchestrator.store.records import MemberRecord, TrialSpec

BASELINE_ID = "baseline"


def run_baseline(context: Context) -> MemberRecord:
    """Train the baseline (once; a finished one is kept) and return its record; raises RunFailed when it cannot be trained."""
    from orchestrator.resolve import baseline_config

    spec = TrialSpec(trial_id=BASELINE_ID, config=baseline_config(context.experiment), kind="baseline")
    (record,) = context.train([spec])
    if not record.usable:
        raise RunFailed(
            f"baseline: {record.status} ({record.error or record.stop_reason}); see {context.workspace.member(BASELINE_ID)}"
        )
    metric = context.experiment.search.metric
    context.say(f"baseline: val {metric} {record.score(metric):.4f} after {record.epochs_run} epochs ({record.seconds:.0f} s)")
    return record
