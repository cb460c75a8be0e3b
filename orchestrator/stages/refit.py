"""Refits: the top configurations trained again, on other seeds or other rows; the new members join the pool."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.config import RefitSection
from orchestrator.stages.bagging import bags_of, enough_bags
from orchestrator.stages.fitting import Fitting
from orchestrator.store.records import MemberRecord, TrialSpec

SEED_STRIDE = 1009
"""Refit number n of a trial uses seed + n * this prime, so that refits of neighbouring seeds never meet."""
ROUND = 3
"""Bags of a configuration trained between two looks at what the last ones brought."""


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
        changes |= {"rows": section.mode, "row_fraction": fraction, "row_seed": number, "stratified": section.stratified}
    kind = "refit" if section.mode == "seeds" else "bag"
    trial_id = f"{parent.trial_id}-{section.mode}{number}"
    return TrialSpec(trial_id=trial_id, config={**parent.config, **changes}, kind=kind, parent=parent.trial_id)


def run_refits(fitting: Fitting, *, size: int) -> dict[str, str]:
    """Train what `ensemble.refit` asks for; returns why bagging stopped, by parent.

    Seeds: enough of the best configuration for a control of `size` members. Bootstraps and subsamples come a few at a time,
    until the out-of-bag gain of the last few is within its noise; folds all at once.
    """
    context = fitting.context
    section = context.experiment.ensemble.refit
    members = max(section.members, size - 1) if section.mode == "seeds" else section.members
    specs = refit_specs(fitting.parents(), section, members=members)
    if not specs:
        return {}
    context.say(f"refit: up to {len(specs)} more trainings ({section.mode}) of {section.top} configuration(s)")
    if section.mode in ("seeds", "fold"):
        _train(fitting, specs)
        return {spec.parent: "every fold is trained" for spec in specs if section.mode == "fold"}
    stopped = {spec.parent: "all members asked for are trained" for spec in specs}
    for number in range(math.ceil(members / ROUND)):
        wanted = [
            spec
            for parent, reason in stopped.items()
            if "noise" not in reason
            for spec in _of(specs, parent)[number * ROUND : (number + 1) * ROUND]
        ]
        _train(fitting, wanted)
        for parent in dict.fromkeys(spec.parent for spec in wanted):
            if enough_bags(fitting, bags_of(fitting, parent, [s.trial_id for s in _of(specs, parent)])):
                stopped[parent] = f"the out-of-bag gain of the last {ROUND} members is within its noise"
    return stopped


def _of(specs: Sequence[TrialSpec], parent: str) -> list[TrialSpec]:
    return [spec for spec in specs if spec.parent == parent]


def _train(fitting: Fitting, specs: Sequence[TrialSpec]) -> list[MemberRecord]:
    from orchestrator.search.run import run_specs

    context = fitting.context
    return run_specs(context.experiment, context.workspace, context.tracker, specs) if specs else []
