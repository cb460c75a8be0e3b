"""What stays on the disk: weights of the best, probabilities of all, checkpoints of those that may go on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from orchestrator.store.records import ranked
from orchestrator.store.workspace import Workspace, read_json

ENDED = ("finished", "stopped", "failed")
GB = 10**9


def tidy(workspace: Workspace, metric: str, *, keep: int, cap_gb: float, unfinished: Collection[str] = ()) -> list[str]:
    """Drop checkpoints of ended members and weights nobody needs; returns the ids whose weights went.

    `unfinished` go on, whatever their records say (one that failed may wait for its next attempt). Of search trials, the
    `keep` best keep their weights; baselines, refits and members of the chosen ensemble always do, as far as `cap_gb` (all
    weights and checkpoints) lets them: beyond it the lowest ranked go first, the best never.
    Probabilities and records are never touched.
    """
    records = [r for r in workspace.load_records() if r.status in ENDED and r.trial_id not in set(unfinished)]
    for record in records:
        shutil.rmtree(workspace.checkpoints(record.trial_id), ignore_errors=True)
    order = [record.trial_id for record in ranked(records, metric)]
    chosen = _chosen(workspace) | {record.trial_id for record in records if record.kind != "trial"}
    trials = [trial_id for trial_id in order if trial_id not in chosen]
    unusable = [record.trial_id for record in records if record.trial_id not in order]
    gone = _drop(workspace, [*trials[keep:], *unusable])
    return gone + _fit(workspace, order, chosen, int(cap_gb * GB))


def _fit(workspace: Workspace, order: list[str], chosen: Collection[str], cap: int) -> list[str]:
    """Drop weights, lowest ranked first and chosen ones last, until weights and checkpoints fit under the cap."""
    used = sum(_size(path) for path in workspace.members.glob("*/checkpoints"))
    sizes = {trial_id: _size(workspace.weights(trial_id)) for trial_id in order}
    used += sum(sizes.values())
    gone: list[str] = []
    for trial_id in sorted(reversed(order[1:]), key=lambda t: t in chosen):
        if used <= cap:
            break
        used -= sizes[trial_id]
        gone += _drop(workspace, [trial_id])
    return gone


def _drop(workspace: Workspace, trial_ids: Iterable[str]) -> list[str]:
    found = [trial_id for trial_id in trial_ids if workspace.weights(trial_id).exists()]
    for trial_id in found:
        workspace.weights(trial_id).unlink(missing_ok=True)
    return found


def _chosen(workspace: Workspace) -> set[str]:
    """Return every word of ensemble.json: among them the ids of its members, whatever the file's layout."""
    try:
        return set(_words(read_json(workspace.ensemble)))
    except (FileNotFoundError, ValueError):
        return set()


def _words(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (str(key), *_words(item))


def _size(path: Path) -> int:
    """Return the bytes of a file or of everything in a folder; what goes meanwhile (workers are writing) counts nothing."""
    files = (Path(where) / name for where, _, names in os.walk(path) for name in names) if path.is_dir() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total
