"""Search: the trials, and the figures that show them together."""

from __future__ import annotations

from orchestrator.context import Context
from orchestrator.errors import RunFailed
from orchestrator.stages.baseline import BASELINE_ID
from orchestrator.stages.figures import figures_of_search, figures_of_trials
from orchestrator.stages.objective import worth_of
from orchestrator.store.records import MemberRecord, ranked


def run_or_resume_search(context: Context) -> list[MemberRecord]:
    """Run the search as a part of the whole way: what is unfinished goes on, and more trials than are there are added."""
    from orchestrator.search.ledger import standing_of
    from orchestrator.search.run import events_of

    standing, wanted = standing_of(events_of(context.workspace)), context.experiment.search.trials
    resume = standing.trials > 0 and (not standing.complete or wanted > standing.total)
    if resume:
        context.say(
            f"search: going on with what is there ({standing.trials - standing.unfinished} of "
            f"{max(wanted, standing.total)} trials done)"
        )
    return run_search_stage(context, resume=resume)


def run_search_stage(context: Context, *, resume: bool = False, extra_trials: int = 0) -> list[MemberRecord]:
    """Run (or go on with) the search and return its records, best first; raises RunFailed when no trial can be used."""
    from orchestrator.search.run import run_search

    records = run_search(
        context.experiment, context.workspace, context.tracker, resume=resume, extra_trials=extra_trials,
        figures=figures_of_trials(context), worth=worth_of(context), again=context.again,
    )  # fmt: skip
    metric, wanted = context.experiment.search.metric, context.experiment.search.trials
    if len(records) > wanted and not extra_trials:
        context.say(f"search: {len(records)} trials are there, more than the {wanted} asked for; all of them count")
    best_first = ranked(records, metric)
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        context.say(f"trial {record.trial_id} failed: {record.error or record.stop_reason}")
    if not best_first:
        raise RunFailed(
            f"search: none of {len(records)} trials has a finished epoch; reasons stand in {context.workspace.members}"
        )
    best = best_first[0]
    context.tracker.search_ended("finished", {f"best/val/{metric}": best.score(metric)}, figures_of_search(context, records))
    context.say(
        f"search: {len(best_first)} of {len(records)} trials usable; "
        f"best {best.trial_id}, val {metric} {best.score(metric):.4f}{_beaten(context, best)}"
    )
    return records


def _beaten(context: Context, best: MemberRecord) -> str:
    """Return a word where no trial is better than the baseline."""
    if not context.workspace.record(BASELINE_ID).exists():
        return ""
    baseline, metric = context.workspace.load_record(BASELINE_ID), context.experiment.search.metric
    first = ranked([best, baseline], metric)[0] if baseline.usable else best
    if first is not baseline:
        return ""
    equal = baseline.score(metric) == best.score(metric)
    return f"; the baseline is {'as good' if equal else 'still better'} ({baseline.score(metric):.4f})"
