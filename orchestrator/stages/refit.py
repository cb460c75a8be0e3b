"""Refits: the top configurations trained again, on other seeds or other rows; the new members join the pool."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config import RefitSection
from orchestrator.context import Context
from orchestrator.store.records import MemberRecord, TrialSpec, ranked

SEED_STRIDE = 1009
"""Refit number n of a trial uses seed + n * this prime, so that refits of neighbouring seeds never meet."""


def refit_specs(best_first: Sequence[MemberRecord], section: RefitSection, *, members: int) -> list[TrialSpec]:
    """Return the refits of the best `section.top` configurations, `members` of each, named after their parent."""
    if section.mode == "none":
        return []
    parents = [record for record in best_first if record.kind in ("trial", "baseline")][: section.top]
    return [_refit(parent, number, section, members) for parent in parents for number in range(1, members + 1)]


def _refit(parent: MemberRecord, number: int, section: RefitSection, members: int) -> TrialSpec:
    changes: dict[str, object] = {"seed": parent.seed + number * SEED_STRIDE}
    if section.mode == "fold":
        changes |= {"rows": "fold", "folds": max(2, members), "fold": (number - 1) % max(2, members)}
    elif section.mode in ("bootstrap", "subsample"):
        fraction = section.fraction if section.mode == "subsample" else 1.0
        changes |= {"rows": section.mode, "row_fraction": fraction, "row_seed": number}
    kind = "refit" if section.mode == "seeds" else "bag"
    trial_id = f"{parent.trial_id}-{section.mode}{number}"
    return TrialSpec(trial_id=trial_id, config={**parent.config, **changes}, kind=kind, parent=parent.trial_id)


def run_refits(context: Context, records: Sequence[MemberRecord], *, size: int) -> list[MemberRecord]:
    """Train what `ensemble.refit` asks for, and enough seeds of the best configuration for a control of `size` members."""
    from orchestrator.search.run import run_specs

    section = context.experiment.ensemble.refit
    members = max(section.members, size - 1) if section.mode == "seeds" else section.members
    best_first = ranked([r for r in records if r.kind in ("trial", "baseline")], context.experiment.search.metric)
    specs = refit_specs(best_first, section, members=members)
    if not specs:
        return []
    context.say(f"refit: {len(specs)} more trainings ({section.mode}) of {section.top} configuration(s)")
    return run_specs(context.experiment, context.workspace, context.tracker, specs)
