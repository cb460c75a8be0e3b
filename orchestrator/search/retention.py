"""What stays on the disk: weights of the best, probabilities of all, checkpoints of those that may go on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from orchestrator.store.records import MemberRecord, ranked
from orchestrator.store.workspace import Workspace, read_json

ENDED = ("finished", "stopped", "failed")
GB = 10**9


class Retention:
    """Keeps a run folder within what is asked for, member by member as they end; reads all records once."""

    def __init__(self, workspace: Workspace, metric: str, *, keep: int, cap_gb: float) -> None:
        """Of search trials, the `keep` best keep their weights; baselines, refits and members of the chosen ensemble always do.

        As far as `cap_gb` (all weights and checkpoints) lets them: beyond it the lowest ranked go first, the best never.
        """
        self._workspace, self._metric, self._keep, self._cap = workspace, metric, keep, int(cap_gb * GB)
        self._ended: dict[str, MemberRecord] | None = None
        self._sizes: dict[str, int] = {}
        """Bytes of the weights of those that ended."""

    def tidy(self, ended: MemberRecord | None = None, *, unfinished: Collection[str] = ()) -> list[str]:
        """Drop checkpoints of ended members (the one given ends now) and weights nobody needs; return whose weights went.

        `unfinished` go on, whatever their records say (one that failed may wait for its next attempt). Probabilities and
        records are never touched.
        """
        going = set(unfinished)
        for record in self._new(ended, going):
            shutil.rmtree(self._workspace.checkpoints(record.trial_id), ignore_errors=True)
            self._sizes[record.trial_id] = _size(self._workspace.weights(record.trial_id))
        records = [record for trial_id, record in (self._ended or {}).items() if trial_id not in going]
        order = [record.trial_id for record in ranked(records, self._metric)]
        chosen = _chosen(self._workspace) | {record.trial_id for record in records if record.kind != "trial"}
        trials = [trial_id for trial_id in order if trial_id not in chosen]
        usable = set(order)
        unusable = [record.trial_id for record in records if record.trial_id not in usable]
        gone = self._drop([*trials[self._keep :], *unusable])
        return gone + self._fit(order, chosen, going)

    def sweep(self, *, unfinished: Collection[str] = ()) -> None:
        """Drop once more the checkpoints of all that ended."""
        for trial_id in (self._ended or {}).keys() - set(unfinished):
            shutil.rmtree(self._workspace.checkpoints(trial_id), ignore_errors=True)

    def _new(self, ended: MemberRecord | None, going: Collection[str]) -> list[MemberRecord]:
        """Take in who has ended: at first everybody on the disk who is not going on, then the one given."""
        found: dict[str, MemberRecord] = {}
        if self._ended is None:
            records = self._workspace.load_records()
            found = {r.trial_id: r for r in records if r.status in ENDED and r.trial_id not in going}
        if ended is not None:
            found[ended.trial_id] = ended
        self._ended = {**(self._ended or {}), **found}
        return list(found.values())

    def _fit(self, order: list[str], chosen: Collection[str], going: Collection[str]) -> list[str]:
        """Drop weights, lowest ranked first and chosen ones last, until weights and checkpoints fit under the cap."""
        used = sum(_size(self._workspace.checkpoints(trial_id)) for trial_id in going)
        used += sum(self._sizes[trial_id] for trial_id in order)
        gone: list[str] = []
        for trial_id in sorted(reversed(order[1:]), key=lambda t: t in chosen):
            if used <= self._cap:
                break
            used -= self._sizes[trial_id]
            gone += self._drop([trial_id])
        return gone

    def _drop(self, trial_ids: Iterable[str]) -> list[str]:
        """Remove weights that are there; returns whose."""
        found = [trial_id for trial_id in trial_ids if self._sizes[trial_id]]
        for trial_id in found:
            self._workspace.weights(trial_id).unlink(missing_ok=True)
            self._sizes[trial_id] = 0
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
