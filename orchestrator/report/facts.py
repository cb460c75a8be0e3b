"""Everything a report tells, read from the run folder alone; what is missing is empty, what cannot be read is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.report.as_html import PICTURE_TYPES
from orchestrator.report.ledger import from_judgement, search_ledger
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord, mode_of, ranked
from orchestrator.store.workspace import Workspace, read_json

PICTURE_LIMIT = 4_000_000
"""Bytes; a larger picture stays out of the page."""


@dataclass(frozen=True)
class Facts:
    """One run folder, read."""

    root: Path
    bundle: Path
    experiment: Mapping[str, Any]
    records: tuple[MemberRecord, ...]
    ensemble: Mapping[str, Any]
    diagnosis: Mapping[str, Any]
    sizes: Mapping[str, int]
    """Rows of each split whose targets are kept."""
    fingerprint: str
    ledger: tuple[Mapping[str, Any], ...] = ()
    search_ledger: tuple[Mapping[str, Any], ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()
    """(stage or "", file) of each figure."""
    exported: bool = False
    troubles: tuple[str, ...] = field(default=())
    """Files that could not be read, and why."""

    @property
    def name(self) -> str:
        """Return the experiment's name."""
        return str(self.experiment.get("name", self.root.name))

    @property
    def metric(self) -> str:
        """Return the search's metric."""
        return str(self.section("search").get("metric", "accuracy"))

    @property
    def best_first(self) -> list[MemberRecord]:
        """Return the usable records, best first."""
        return ranked(list(self.records), self.metric)

    @property
    def higher_is_better(self) -> bool:
        """Return whether more of the search's metric is better."""
        return mode_of(self.metric) == "max"

    def section(self, name: str) -> Mapping[str, Any]:
        """Return one section of the experiment."""
        found = self.experiment.get(name)
        return found if isinstance(found, Mapping) else {}

    def record(self, trial_id: str) -> MemberRecord | None:
        """Return a member's record, if it is there."""
        return next((record for record in self.records if record.trial_id == trial_id), None)


def read_facts(workspace: Workspace) -> Facts:
    """Read a run folder."""
    troubles: list[str] = []
    experiment, ensemble, diagnosis = (
        _mapping(path, troubles) for path in (workspace.experiment, workspace.ensemble, workspace.diagnosis)
    )
    records = _records(workspace, troubles)
    sizes, fingerprint = _targets(workspace, troubles)
    search = experiment.get("search")
    metric = str(search.get("metric", "accuracy")) if isinstance(search, Mapping) else "accuracy"
    history: list[dict[str, Any]] = []
    try:
        history = search_ledger(workspace, records, metric, seed=0)
    except (OSError, ValueError, KeyError, IndexError) as error:
        troubles.append(f"the search's ledger: {error}")
    return Facts(
        root=workspace.root,
        bundle=workspace.bundle,
        experiment=experiment,
        records=tuple(records),
        ensemble=ensemble,
        diagnosis=diagnosis,
        sizes=sizes,
        fingerprint=fingerprint,
        ledger=tuple(ensemble.get("ledger") or from_judgement(ensemble, {r.trial_id: r.config for r in records})),
        search_ledger=tuple(history),
        pictures=_pictures(workspace.figures),
        exported=workspace.bundle.is_dir(),
        troubles=tuple(troubles),
    )


def _mapping(path: Path, troubles: list[str]) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        troubles.append(str(error))
        return {}
    return found if isinstance(found, Mapping) else {}


def _records(workspace: Workspace, troubles: list[str]) -> list[MemberRecord]:
    records = []
    for folder in sorted(workspace.members.glob("*")):
        try:
            path = workspace.record(folder.name)
            if path.exists():
                records.append(MemberRecord.from_dict(read_json(path)))
        except (OSError, ValueError, TypeError) as error:
            troubles.append(f"member {folder.name}: {error}")
    return records


def _targets(workspace: Workspace, troubles: list[str]) -> tuple[dict[str, int], str]:
    bank, sizes, fingerprint = PredictionBank(workspace), {}, ""
    for split in ("train", "val", "test"):
        if workspace.targets(split).exists():
            try:
                sizes[split], fingerprint = len(bank.targets(split)), bank.fingerprint(split)
            except (OSError, ValueError, KeyError) as error:
                troubles.append(f"{workspace.targets(split)}: {error}")
    return sizes, fingerprint


def _pictures(folder: Path) -> tuple[tuple[str, Path], ...]:
    """Return the pictures of the run and of its stages, not those of single trials, which lie a level deeper."""
    found = [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]
    kept = [p for p in found if p.suffix.lower() in PICTURE_TYPES and p.is_file() and p.stat().st_size <= PICTURE_LIMIT]
    return tuple((p.parent.name if p.parent != folder else "", p) for p in kept)
