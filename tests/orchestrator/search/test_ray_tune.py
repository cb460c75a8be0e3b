"""Ray Tune's side of a search, without Ray: nodes are looked at all the time, and a trial that hangs is ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.search.interrupt import Ending
from orchestrator.search.ray_tune import _Course, _Ender

ROOT = Path(__file__).parents[3]
WORKER = """
import json, os, sys, time
from types import SimpleNamespace
from ray import tune
from orchestrator.search import trial
from orchestrator.search.ray_tune import train_on_ray
from trainables.contract import Outcome

def run(*_, report, **__):
    for epoch in range(1, 4):
        report(Outcome(epoch, {}, epoch == 3, ""))
    print("leaves in", os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"], flush=True)
    time.sleep(float(sys.argv[2]))

trial.run_trial, tune.report = run, lambda told: print(json.loads(told["outcome"])["epoch"], flush=True)
train_on_ray({"job": sys.argv[1]})
print("end")
"""


class Watched:
    """Counts how often the nodes are looked at, the third time in vain."""

    looks = 0

    @property
    def at_once(self) -> int:
        self.looks += 1
        if self.looks == 3:
            raise UserError("the cluster is not ready: a node is unfit")
        return 1


def test_nodes_are_looked_at_while_no_trial_starts_and_an_unfit_one_ends_the_search_in_order() -> None:
    workers: Any = Watched()
    course = _Course(SimpleNamespace(live=1), Ending(), SimpleNamespace(lost=""), workers)  # type: ignore[arg-type]
    ender = _Ender(course)
    assert [ender.stop_all() for _ in range(4)] == [False, False, True, True]
    assert workers.looks == 3
    with pytest.raises(UserError, match="a node is unfit"):
        course.conclude()


@pytest.mark.parametrize(("timeout_s", "hangs_s", "ended"), [(1.0, 600.0, True), (0.0, 0.0, False), (60.0, 0.0, False)])
def test_a_worker_in_which_no_epoch_ends_ends_itself(timeout_s: float, hangs_s: float, ended: bool) -> None:
    job = {
        "spec": {"trial_id": "t0", "config": {}}, "data": {"source": "digits"}, "root": "/none", "metric": "accuracy",
        "timeout_s": timeout_s,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(job), str(hangs_s)], capture_output=True, text=True, cwd=ROOT,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert done.stdout.split()[:3] == ["1", "2", "3"]
    assert "leaves in 600" in done.stdout, "the write of a large state is waited for before the worker's next trial"
    assert ("end" in done.stdout, done.returncode) == (not ended, int(ended))
    assert ("Timeout" in done.stderr and "in run" in done.stderr) == ended, done.stderr
