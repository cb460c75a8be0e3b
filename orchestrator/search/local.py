"""The search in this very process, one trial after another: for tests, debugging, and machines without Ray."""

from __future__ import annotations

from orchestrator.search.conductor import Conductor
from orchestrator.search.interrupt import Ending, raise_now, signals
from orchestrator.search.schedulers import Verdict
from orchestrator.search.trial import run_trial
from trainables.allocator import keep_freed_memory
from trainables.contract import Outcome
from trainables.data import DataConfig


class _Over(BaseException):
    """Leaves a trial between two epochs."""


def run_local(conductor: Conductor, *, data: DataConfig, root: str, metric: str, ending: Ending) -> None:
    """Run the conductor's trials until there are none, or `ending` says so; raises Signalled at once on a signal."""
    keep_freed_memory()
    with signals(raise_now):
        while not ending.reason():
            spec = conductor.next_spec()
            if spec is None:
                return

            def report(outcome: Outcome, trial_id: str = spec.trial_id) -> bool:
                verdict = conductor.epoch(trial_id, outcome.epoch, outcome.metrics)
                if verdict is Verdict.GO_ON and not outcome.done and ending.reason():
                    raise _Over
                return verdict is Verdict.GO_ON

            conductor.started(spec.trial_id)
            try:
                run_trial(spec, data=data, root=root, metric=metric, report=report)
            except _Over:
                return
            conductor.ended(spec.trial_id)
