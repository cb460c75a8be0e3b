"""The run folder: the only file that spells file names, and the only way members' records are written or read."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.store.records import MemberRecord


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, fsync, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide reports from the user's colleagues
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; raises FileNotFoundError or ValueError naming the file."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


class Workspace:
    """One run folder and the names of everything in it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    @property
    def experiment(self) -> Path:
        """The resolved experiment as JSON."""
        return self.root / "experiment.json"

    @property
    def ledger(self) -> Path:
        """Append-only truth of the search: one JSON object a line."""
        return self.root / "ledger.jsonl"

    @property
    def journal(self) -> Path:
        """Append-only spool of what the tracker has been told."""
        return self.root / "tracking.jsonl"

    @property
    def crash_log(self) -> Path:
        """The traceback of the last unexpected error."""
        return self.root / "crash.log"

    @property
    def lock(self) -> Path:
        """Held by the one driver that writes here."""
        return self.root / "driver.lock"

    @property
    def diagnosis(self) -> Path:
        """Weaknesses of the baseline and what is recommended or forbidden."""
        return self.root / "diagnosis.json"

    @property
    def ensemble(self) -> Path:
        """The chosen ensemble, its scores and its controls."""
        return self.root / "ensemble.json"

    @property
    def bundle(self) -> Path:
        """The exported ensemble."""
        return self.root / "bundle"

    @property
    def samples(self) -> Path:
        """A few test images as files, and what the exported ensemble says of them."""
        return self.root / "samples"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.root / "figures"

    @property
    def report_page(self) -> Path:
        """The report as one HTML file."""
        return self.root / "report.html"

    @property
    def report_text(self) -> Path:
        """The report as Markdown."""
        return self.root / "report.md"

    @property
    def ray_results(self) -> Path:
        """Ray Tune's own files; nothing of ours depends on them."""
        return self.root / "ray"

    @property
    def members(self) -> Path:
        """Folder of all members."""
        return self.root / "members"

    def member(self, trial_id: str) -> Path:
        """Folder of one member; refuses ids that would leave the run folder."""
        if not trial_id or not all(c.isalnum() or c in "-_" for c in trial_id):
            raise ValueError(f"trial id: got {trial_id!r}, allowed: letters, digits, '-' and '_'")
        return self.members / trial_id

    def record(self, trial_id: str) -> Path:
        """A member's record."""
        return self.member(trial_id) / "record.json"

    def predictions(self, trial_id: str, split: str) -> Path:
        """A member's probabilities of one split at its best epoch, float16 [N, C]."""
        return self.member(trial_id) / f"{split}.npy"

    def rows(self, trial_id: str) -> Path:
        """The training rows of a member that were not drawn by its own seed: int64 [N]."""
        return self.member(trial_id) / "rows.npy"

    def teacher(self, trial_id: str) -> Path:
        """What a student is trained towards on the training rows: float32 [N, C]."""
        return self.member(trial_id) / "teacher.npy"

    def targets(self, split: str) -> Path:
        """Targets and ids of one split, written once a run."""
        return self.root / "targets" / f"{split}.npz"

    def weights(self, trial_id: str) -> Path:
        """A member's best-epoch inference weights."""
        return self.member(trial_id) / "weights.safetensors"

    def torn(self, trial_id: str) -> Path:
        """There while a member's best epoch is being replaced: its files and its record may not be of one epoch."""
        return self.member(trial_id) / ".torn"

    def checkpoints(self, trial_id: str) -> Path:
        """A member's resumable training states."""
        return self.member(trial_id) / "checkpoints"

    def save_record(self, record: MemberRecord) -> None:
        """Write a member's record atomically."""
        write_json(self.record(record.trial_id), record.to_dict())

    def load_record(self, trial_id: str) -> MemberRecord:
        """Read a member's record."""
        return MemberRecord.from_dict(read_json(self.record(trial_id)))

    def load_records(self) -> list[MemberRecord]:
        """Return all members' records in order of trial id."""
        return [MemberRecord.from_dict(read_json(path)) for path in sorted(self.members.glob("*/record.json"))]
