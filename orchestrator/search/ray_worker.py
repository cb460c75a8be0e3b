"""What runs in a worker's process: one of Tune's trials; it imports what training needs and nothing of the driver's."""

from __future__ import annotations

import faulthandler
import json
import os
from typing import Any

from ray import tune

from orchestrator.search.ledger import spec_from

STDERR = 2
"""The file descriptor that Ray leads into a worker's log, whatever `sys.stderr` is there."""
LEAVING = ("TUNE_FUNCTION_THREAD_TIMEOUT_S", "600")
"""How long a worker waits for its last trial to leave before it fails the next; Ray's 2 s may be less than a state's write."""


def train_on_ray(config: dict[str, Any]) -> None:
    """Run one trial in a worker; Tune ends it by ending the thread inside `report`, so it never hears "stop".

    A worker in which no epoch ends for `timeout_s` ends itself, every thread's place in its log; its trial is then tried again.
    """
    from orchestrator.search.trial import run_trial
    from trainables.allocator import keep_freed_memory
    from trainables.contract import Outcome
    from trainables.data import DataConfig

    os.environ.setdefault(*LEAVING)  # here, since a cluster's nodes do not have the driver's environment
    keep_freed_memory()
    job = json.loads(config["job"])

    def report(outcome: Outcome) -> bool:
        faulthandler.cancel_dump_traceback_later()
        told = {"epoch": outcome.epoch, "metrics": outcome.metrics, "done": outcome.done}
        tune.report({"outcome": json.dumps(told)})
        watch()
        return True

    def watch() -> None:
        if job["timeout_s"]:
            faulthandler.dump_traceback_later(job["timeout_s"], exit=True, file=STDERR)

    watch()
    try:
        run_trial(
            spec_from(job["spec"]), data=DataConfig(**job["data"]), root=job["root"], metric=job["metric"], report=report
        )  # fmt: skip
    finally:
        faulthandler.cancel_dump_traceback_later()
