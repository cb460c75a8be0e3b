"""How a trial's end is read from what its worker left, and how one trial's state is handed to another."""

from __future__ import annotations

import shutil

from orchestrator.search.ledger import TrialLog
from orchestrator.search.schedulers import Verdict
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace

SCHEDULER = "scheduler"
"""Stop reason of a trial that was told to end; its worker cannot tell an end from a pause."""
_HOPELESS = ("ValueError:", "TypeError:", "NonFiniteLoss:")


def final_record(
    workspace: Workspace, log: TrialLog, *, verdict: Verdict, error: str, reason: str, fingerprint: str
) -> MemberRecord:
    """Return the record of a trial that its worker let go of; status "running" means that it only waits.

    The worker's own word counts ("finished", "failed", "stopped"). Where it had no last word it was stopped from outside
    (`verdict`), or lost (`error`).
    """
    record = left_record(workspace, log, fingerprint)
    if record.status == "stopped" and record.stop_reason == SCHEDULER:
        record = record.replace(status="running", stop_reason="")
    if record.status in ("finished", "failed", "stopped"):
        return record
    if error:
        return record.replace(status="failed", stop_reason="", error=error)
    if verdict is Verdict.STOP:
        return record.replace(status="stopped", stop_reason=reason, error="")
    if verdict is Verdict.WAIT:
        return record.replace(status="running", stop_reason="", error="")
    return record.replace(status="failed", stop_reason="", error="WorkerLost: the worker ended without a last word")


def left_record(workspace: Workspace, log: TrialLog, fingerprint: str) -> MemberRecord:
    """Return the record on the disk, or an empty one for a worker that never got so far.

    One whose best epoch's files were being replaced when the worker was lost has no best epoch: they may be of two.
    """
    try:
        found = workspace.load_record(log.spec.trial_id)
        return found.replace(best_epoch=0, metrics={}) if workspace.torn(log.spec.trial_id).exists() else found
    except (FileNotFoundError, ValueError):
        spec = log.spec
        seed = int(spec.config.get("seed", 0))
        return MemberRecord(
            spec.trial_id, spec.kind, spec.trainable, dict(spec.config), seed, "", fingerprint, "running", parent=spec.parent
        )


def hopeless(record: MemberRecord) -> bool:
    """Return whether trying again would fail the same way: a config or data that does not hold."""
    return record.error.startswith(_HOPELESS)


def headline(error: str) -> str:
    """Return the first line of an error text: type and message, without the traceback."""
    return error.split("\n", 1)[0][:300]


def sentence(record: MemberRecord, metric: str) -> str:
    """Return a trial's end as one line."""
    if record.status == "failed":
        return f"{record.trial_id} failed: {headline(record.error)}"
    reason = f" ({record.stop_reason})" if record.stop_reason else ""
    score = f"best {metric} {record.score(metric):.4f} at epoch {record.best_epoch}" if record.best_epoch else "no epoch"
    return f"{record.trial_id} {record.status}{reason} after {record.epochs_run} epochs, {score}"


def take_over(workspace: Workspace, trial_id: str, source: str) -> None:
    """Give a waiting trial a copy of another waiting trial's checkpoints in place of its own."""
    target = workspace.checkpoints(trial_id)
    copy = target.with_name(f".{target.name}.copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(workspace.checkpoints(source), copy)
    shutil.rmtree(target, ignore_errors=True)
    copy.rename(target)
