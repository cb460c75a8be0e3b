"""A worker's process: it imports nothing of the driver's, and a trial that hangs is ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORKER = """
import json, os, sys, time
from types import SimpleNamespace
from ray import tune
from orchestrator.search import trial
from orchestrator.search.ray_worker import train_on_ray
from trainables.contract import Outcome

def run(*_, report, **__):
    for epoch in range(1, 4):
        report(Outcome(epoch, {}, epoch == 3, ""))
    time.sleep(float(sys.argv[2]))

trial.run_trial, tune.report = run, lambda told: print(json.loads(told["outcome"])["epoch"], flush=True)
train_on_ray({"job": sys.argv[1]})
print("end", os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"])
"""


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
    assert ("end 600" in done.stdout, done.returncode) == (not ended, int(ended)), "a large state's write is waited for"
    assert ("Timeout" in done.stderr and "in run" in done.stderr) == ended, done.stderr


def test_a_worker_imports_nothing_that_only_the_driver_needs() -> None:
    script = "import sys, orchestrator.search.ray_worker; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    loaded = set(done.stdout.split())
    assert "orchestrator.search.ray_worker" in loaded
    assert not {"mlflow", "optuna", "torch", "orchestrator.search.ray_tune", "orchestrator.search.conductor"} & loaded
