"""The one door to a run's data: decoded once a process, the same data as before, and the user's mistakes said as such."""

from __future__ import annotations

from orchestrator.errors import UserError
from orchestrator.search.trial import splits_of
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import Workspace
from trainables.data import DataConfig, Splits


def splits_of_run(workspace: Workspace, data: DataConfig, *names: str) -> Splits:
    """Return the decoded splits and keep the targets of the named ones in the run folder.

    Raises UserError for data that cannot be loaded, and for other data than the run folder holds.
    """
    bank = PredictionBank(workspace)
    try:
        splits = splits_of(data)
        for name in names:
            part = splits.part(name)
            bank.put_targets(name, part.targets, part.ids, splits.fingerprint)
    except ValueError as error:
        raise UserError(str(error)) from error
    return splits
