"""Baseline: one plain model without regularisation or augmentation, whose score everything later must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.context import Context
from orchestrator.errors import RunFailed
from orchestrator.store.records import MemberRecord, TrialSpec

if TYPE_CHECKING:
    from trainables.data.dataset import Splits

BASELINE_ID = "baseline"
NAMED = 3
"""Files left out that are named."""


def run_baseline(context: Context) -> MemberRecord:
    """Train the baseline (once; a finished one is kept) and return its record; raises RunFailed when it cannot be trained."""
    from orchestrator.resolve import baseline_config, frozen_untrained

    context.say(data_in_words(context.splits()))
    spec = TrialSpec(trial_id=BASELINE_ID, config=baseline_config(context.experiment), kind="baseline")
    if warning := frozen_untrained("baseline", spec.config):
        context.say(f"warning: {warning}")
    (record,) = context.train([spec])
    if not record.usable:
        raise RunFailed(
            f"baseline: {record.status} ({record.error or record.stop_reason}); see {context.workspace.member(BASELINE_ID)}"
        )
    metric = context.experiment.search.metric
    context.say(f"baseline: val {metric} {record.score(metric):.4f} after {record.epochs_run} epochs ({record.seconds:.0f} s)")
    return record


def data_in_words(splits: Splits) -> str:
    """Return how many images there are of what, and what was left out."""
    sizes = ", ".join(f"{len(splits.part(name)):,} {name}" for name in ("train", "val", "test"))
    what = f"{len(splits.classes)} classes" if splits.classes else "a number to predict"
    left_out = [f"{path}: {reason}" for path, reason in splits.skipped]
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return f"data: {sizes} images, {what}" + (f"; left out: {'; '.join(left_out[:NAMED])}{more}" if left_out else "")
