"""Which figures belong to which stage: of each trial, of the search, of the ensemble; drawn by the report's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.store.predictions import PredictionBank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from orchestrator.context import Context
    from orchestrator.search.conductor import Figures
    from orchestrator.store.records import MemberRecord
    from orchestrator.store.workspace import Workspace

DRAWN = 200
"""Members of the pool drawn at most."""
CONTESTED = 8
"""Images shown on which two members differ."""


def figures_of_trials(context: Context) -> Figures:
    """Return what draws a trial's learning curves and confusion matrix once it has ended."""
    from orchestrator.report.trial_figures import trial_figures

    classes = context.splits().classes

    def draw(record: MemberRecord, history: Mapping[int, Mapping[str, float]]) -> Sequence[Path]:
        epochs = [{"epoch": float(epoch), **metrics} for epoch, metrics in sorted(history.items())]
        return trial_figures(context.workspace, record, epochs, classes)

    return draw


def figures_of_search(context: Context, records: Sequence[MemberRecord]) -> list[Path]:
    """Draw best so far, parallel coordinates and the importance of each knob."""
    from orchestrator.report.search_figures import search_figures
    from orchestrator.resolve import space_of

    return search_figures(
        context.workspace, records, space_of(context.experiment), metric=context.experiment.search.metric
    )  # fmt: skip


def ensemble_figures(context: Context, found: Mapping[str, Any]) -> list[Path]:
    """Draw the ensemble beside its controls, its members' differences, its reliability and its cost."""
    from orchestrator.report.canvas import save_figure
    from orchestrator.report.ensemble_plots import disagreement_map, ensemble_bars, reliability_diagram

    workspace, table = context.workspace, found["judgement"]
    rows = [row for row in table["rows"] if "accuracy_low" in row]
    if not rows:
        return []
    drawn = {
        "controls": ensemble_bars(
            [row["name"] for row in rows], [row["accuracy"] for row in rows], [row["accuracy_low"] for row in rows],
            [row["accuracy_high"] for row in rows], split=table["split"],
        ),
        "reliability": reliability_diagram(_confidences(workspace, found, table["split"])),
    }  # fmt: skip
    if found["diversity"]:
        names = [member["trial_id"] for member in found["ensemble"]["members"]]
        drawn["disagreement"] = disagreement_map(found["diversity"]["disagreement"], names)
        drawn["accuracy_diversity"] = _accuracy_diversity(workspace, found)
        drawn["contested"] = _contested(context, names, found["diversity"]["disagreement"])
    return [save_figure(figure, workspace.figures / "ensemble" / f"{name}.png") for name, figure in drawn.items()]


def _accuracy_diversity(workspace: Workspace, found: Mapping[str, Any]) -> Figure:
    """Draw each member of the pool: its accuracy on validation against how much it differs from the others there."""
    from orchestrator.report.ensemble_plots import accuracy_diversity

    bank, chosen = PredictionBank(workspace), set(found["ensemble"]["member_ids"])
    names = found["pool"][:DRAWN]
    labels_MN = np.stack([bank.get(name, "val").argmax(axis=1) for name in names])
    differ_M = [float((labels_MN != own).mean() * len(names) / max(1, len(names) - 1)) for own in labels_MN]
    right_M = [float(share) for share in (labels_MN == bank.targets("val")).mean(axis=1)]
    return accuracy_diversity(right_M, differ_M, [name in chosen for name in names])


def _contested(context: Context, names: Sequence[str], disagreement: Sequence[Sequence[float]]) -> Figure:
    """Draw the images on which the two members that differ most say different things."""
    from orchestrator.ensemble.diversity import contested_rows
    from orchestrator.report.contested_plot import Contested, contested_images

    splits, bank = context.splits(), PredictionBank(context.workspace)
    matrix = np.asarray(disagreement)
    pair = [int(place) for place in np.unravel_index(int(matrix.argmax()), matrix.shape)]
    first, second = (bank.get(names[place], "val") for place in pair)

    def said(probs_NC: Any, row: int) -> tuple[str, float]:
        return splits.classes[int(probs_NC[row].argmax())], float(probs_NC[row].max())

    rows = contested_rows(first, second, bank.targets("val"))[:CONTESTED]
    val = splits.val
    shown = [
        Contested(val.images[int(row)], splits.classes[int(val.targets[row])], said(first, row), said(second, row))
        for row in rows
    ]
    return contested_images((names[pair[0]], names[pair[1]]), shown)


def _confidences(workspace: Workspace, found: Mapping[str, Any], split: str) -> dict[str, tuple[Any, Any]]:
    """Return name -> (confidence [N], correct [N]) of the ensemble, before its calibration too, and of the best single."""
    from orchestrator.ensemble.ensemble import Ensemble

    bank = PredictionBank(workspace)
    labels = bank.targets(split)
    chosen, single = (Ensemble.from_json(_numbers(found[key])) for key in ("ensemble", "single"))
    shown = {}
    for name, ensemble in (
        ("ensemble", chosen), ("ensemble before calibration", chosen.uncalibrated()), ("best single", single),
    ):  # fmt: skip
        probs = ensemble.combine([bank.get(member, split) for member in ensemble.member_ids])
        shown[name] = (probs.max(axis=1), probs.argmax(axis=1) == labels)
    return shown


def _numbers(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return an ensemble as its own room wrote it (`ensemble.json` names members by trial instead of by place)."""
    return {**stored, "members": list(range(len(stored["member_ids"])))}
