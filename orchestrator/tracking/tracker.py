"""What every stage may tell a tracker, and the twin that tells nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from orchestrator.store.records import MemberRecord


class Tracker(Protocol):
    """A sink for scores; no call raises for the sink's own troubles, blocks on a network, or makes a second run for a name."""

    def search_started(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open (or find again) the parent run of this run folder."""

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open (or find again) a nested run of one trial: tags hold kind, model, config_hash, data_fingerprint, parent."""

    def trial_epoch(self, trial_id: str, metrics: Mapping[str, float], epoch: int) -> None:
        """Log one epoch's metrics; telling the same epoch twice logs it once."""

    def trial_ended(self, record: MemberRecord, figures: Sequence[Path] = ()) -> None:
        """Close a trial's run with its status, stop reason, best metrics and figures."""

    def stage(
        self, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Log a whole stage (baseline, diagnosis, ensemble, export, report) as one run; a rerun updates the same run."""

    def search_ended(self, status: str, metrics: Mapping[str, float], figures: Sequence[Path] = ()) -> None:
        """Close the parent run ("finished", "interrupted", "failed") with summary metrics and figures."""

    def close(self) -> None:
        """Flush what is pending (bounded in time; the rest stays in the journal for the next start)."""


class NullTracker:
    """Tells nobody: the twin for tests and for `tracking.uri: none`."""

    def search_started(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def trial_started(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def trial_epoch(self, trial_id: str, metrics: Mapping[str, float], epoch: int) -> None:
        """Do nothing."""

    def trial_ended(self, record: MemberRecord, figures: Sequence[Path] = ()) -> None:
        """Do nothing."""

    def stage(
        self, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Do nothing."""

    def search_ended(self, status: str, metrics: Mapping[str, float], figures: Sequence[Path] = ()) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


if TYPE_CHECKING:
    _null: Tracker = NullTracker()
