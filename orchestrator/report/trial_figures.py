"""The figures of one trial, written into the run folder: its learning curves and its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from orchestrator.report.plots import confusion_matrix, learning_curves, save_figure
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace


def trial_figures(
    workspace: Workspace, record: MemberRecord, history: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> list[Path]:
    """Write what can be drawn and return the files; `history` holds each epoch's metrics, no `classes` means regression."""
    folder, written = workspace.figures / "trials" / record.trial_id, []
    if history:
        title = f"{record.trial_id}: {record.config.get('model', '')}, {record.status}"
        figure = learning_curves(history, best_epoch=record.best_epoch, title=title)
        written.append(save_figure(figure, folder / "learning_curves.png"))
    bank = PredictionBank(workspace)
    if len(classes) > 1 and bank.has(record.trial_id, "val") and workspace.targets("val").exists():
        truth = bank.targets("val").astype(np.int64)
        predicted = bank.get(record.trial_id, "val").argmax(axis=1)
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (truth, predicted), 1)
        figure = confusion_matrix(counts, classes, title=f"{record.trial_id}: validation, epoch {record.best_epoch}")
        written.append(save_figure(figure, folder / "confusion_matrix.png"))
    return written
