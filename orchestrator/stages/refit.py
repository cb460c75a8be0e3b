"""Refits: the top configurations trained again, on other seeds or other rows; the new members join the pool.

What is trained depends on what the search left, not on earlier refits: asked again, the stage finds all of it done.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from orchestrator.config import RefitSection
from orchestrator.stages.bagging import bags_of, enough_bags
from orchestrator.stages.fitting import CONTROL, WHOLE, Fitting
from orchestrator.store.records import MemberRecord, TrialSpec

SEED_STRIDE = 1009
"""Refit number n of a trial uses seed + n * this prime, so that refits of neighbouring seeds never meet."""
CONTROL_STRIDE = 2003
"""The same for seeds that are trained for a control alone; another prime, so that they never meet refits' seeds either."""
SEARCHED = ("baseline", "light", "trial")
"""Kinds that are there before anything is trained again."""
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
    trial_id = f"{parent.trial_id}-{_way(section, max(2, members))}{number}"
    return TrialSpec(trial_id=trial_id, config={**parent.config, **changes}, kind=kind, parent=parent.trial_id)


def _way(section: RefitSection, folds: int) -> str:
    """Return a word for how rows are drawn: other rows are other members, beside those that were trained before."""
    if section.mode == "fold":
        return f"fold{folds}-"
    plain = "" if section.stratified else "plain"
    fraction = "" if section.fraction == RefitSection().fraction else f"{section.fraction:g}-".replace(".", "_")
    return {"bootstrap": f"bootstrap{plain}", "subsample": f"subsample{plain}{fraction}"}.get(section.mode, section.mode)


def run_refits(fitting: Fitting) -> dict[str, str]:
    """Train what `ensemble.refit` asks for; returns why bagging stopped, by parent.

    Seeds: at least as many as the ensemble of what the search trained has members. Bootstraps and subsamples come a few at a
    time, until the out-of-bag gain of the last few is within its noise; folds all at once.
    """
    context = fitting.context
    section = context.experiment.ensemble.refit
    members = max(section.members, _size(fitting) - 1) if section.mode == "seeds" else section.members
    specs = refit_specs(fitting.parents(), section, members=members)
    if not specs:
        return {}
    context.say(f"refit: up to {len(specs)} more trainings ({section.mode}) of {section.top} configuration(s)")
    if section.mode in ("seeds", "fold"):
        context.train(specs)
        return {spec.parent: "every fold is trained" for spec in specs if section.mode == "fold"}
    stopped = {spec.parent: "all members asked for are trained" for spec in specs}
    for number in range(math.ceil(members / ROUND)):
        wanted = [
            spec
            for parent, reason in stopped.items()
            if "noise" not in reason
            for spec in _of(specs, parent)[number * ROUND : (number + 1) * ROUND]
        ]
        context.train(wanted)
        for parent in dict.fromkeys(spec.parent for spec in wanted):
            if enough_bags(fitting, bags_of(fitting, parent, [s.trial_id for s in _of(specs, parent)])):
                stopped[parent] = f"the out-of-bag gain of the last {ROUND} members is within its noise"
    return stopped


def top_up_seeds(fitting: Fitting, *, size: int) -> None:
    """Train seeds of the best configuration until there are `size`, for the control of the ensemble's size.

    Only where refits are seeds. They are no candidates, so an ensemble that is chosen again is the same one.
    """
    context, best = fitting.context, fitting.parents()[0]
    same = [r for r in fitting.trained() if r.kind in (*WHOLE, CONTROL) and r.config_hash == best.config_hash]
    missing = size - len(same)
    if context.experiment.ensemble.refit.mode != "seeds" or missing <= 0:
        return
    context.say(f"control: {missing} more seeds of {best.trial_id}, for as many members as the ensemble has")
    taken = {record.trial_id for record in context.workspace.load_records() if record.status == "failed"}
    taken |= {record.trial_id for record in same}
    free = (spec for n in itertools.count(1) if (spec := _control(best, n)).trial_id not in taken)
    context.train(list(itertools.islice(free, missing)))


def _control(best: MemberRecord, number: int) -> TrialSpec:
    config = {**best.config, "seed": best.seed + number * CONTROL_STRIDE}
    return TrialSpec(f"{best.trial_id}-{CONTROL}{number}", config, kind=CONTROL, parent=best.trial_id)


def _size(fitting: Fitting) -> int:
    """Return how many members the ensemble of what the search trained has."""
    searched = [record for record in fitting.candidates() if record.kind in SEARCHED]
    return len(fitting.fit(searched, folds=0).member_ids)


def _of(specs: Sequence[TrialSpec], parent: str) -> list[TrialSpec]:
    return [spec for spec in specs if spec.parent == parent]
