"""Bags: what members trained on some of the rows say of the rows they did not see, beside validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import Fitting
from orchestrator.store.records import MemberRecord

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble

NAMED = 20
"""Rows without an out-of-bag member that are named one by one."""


@dataclass(frozen=True)
class Bags:
    """The bags of one configuration: their predictions on the training rows, and which rows each of them saw."""

    ids: tuple[str, ...]
    probs_MNC: list[NDArray[np.float32]]
    in_bag_MN: NDArray[np.bool_]
    labels_N: NDArray[Any]


def bag_records(fitting: Fitting) -> dict[str, list[MemberRecord]]:
    """Return the usable bags by parent, the best parent first, each in the order of its number."""
    bags = [record for record in fitting.candidates() if record.kind == "bag"]
    order = [record.trial_id for record in fitting.parents()]
    by_parent = {parent: [record for record in bags if record.parent == parent] for parent in order}
    return {p: sorted(found, key=lambda r: (len(r.trial_id), r.trial_id)) for p, found in by_parent.items() if found}


def bags_of(fitting: Fitting, parent: str, ids: Sequence[str]) -> Bags:
    """Return the bags of a parent that are among `ids`, predicting the training rows where that is still to be done."""
    from orchestrator.ensemble.bagging import in_bag_mask
    from orchestrator.search.predict_members import predict_split
    from trainables.config import TrainConfig
    from trainables.data.rows import rows_of

    records = [record for record in bag_records(fitting).get(parent, []) if record.trial_id in set(ids)]
    targets = fitting.context.splits().train.targets
    found = tuple(record.trial_id for record in records)
    predict_split(fitting.context.workspace, fitting.context.data, found, "train")
    rows = [rows_of(TrainConfig.from_dict(record.config), targets) for record in records]
    labels_N = targets.astype(np.float64 if fitting.spec.regression else np.int64)
    return Bags(found, [fitting.bank.get(i, "train") for i in found], in_bag_mask(list(rows), len(targets)), labels_N)


def enough_bags(fitting: Fitting, bags: Bags) -> bool:
    """Return whether the last few bags brought nothing out of bag beyond noise."""
    from orchestrator.ensemble.bagging import gain_is_noise

    return gain_is_noise(bags.probs_MNC, bags.in_bag_MN, bags.labels_N, metric=fitting.spec.criterion, seed=fitting.seed)


def bagged_controls(fitting: Fitting) -> dict[str, Ensemble]:
    """Return the uniform ensemble of each configuration's bags: "bagged" of the best one, the others with their name."""
    found = {}
    for number, (parent, records) in enumerate(bag_records(fitting).items()):
        name = "bagged" if number == 0 else f"bagged {parent}"
        found[name] = fitting.given([record.trial_id for record in records], name)
    return found


def describe_bags(
    fitting: Fitting, controls: Mapping[str, Ensemble], stopped: Mapping[str, str], tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the out-of-bag estimate of each bagged control beside its rows of the judged tables (split -> table)."""
    found = {}
    for name, control in controls.items():
        parent = fitting.context.workspace.load_record(control.member_ids[0]).parent
        scores = {
            split: {k: v for k, v in _row(table, name).items() if k in fitting_metrics(fitting)}
            for split, table in tables.items()
        }
        found[name] = {
            "parent": parent, "members": list(control.member_ids), "stopped": stopped.get(parent, ""),
            **_out_of_bag(fitting, control, bags_of(fitting, parent, control.member_ids)), **scores,
        }  # fmt: skip
    return found


def fitting_metrics(fitting: Fitting) -> tuple[str, ...]:
    """Return the names of the metrics of the task."""
    from orchestrator.ensemble.metrics import CLASSIFICATION, REGRESSION

    return tuple(REGRESSION if fitting.spec.regression else CLASSIFICATION)


def _out_of_bag(fitting: Fitting, control: Ensemble, bags: Bags) -> dict[str, Any]:
    """Return scores of the mean over the members that did not see a row, with the control's temperatures."""
    from orchestrator.ensemble.bagging import out_of_bag
    from orchestrator.ensemble.calibration import apply_temperature

    tempered = bags.probs_MNC
    if not fitting.spec.regression:
        tempered = [apply_temperature(p, t) for p, t in zip(tempered, control.temperatures, strict=True)]
    found = out_of_bag(tempered, bags.in_bag_MN)
    ids = fitting.context.splits().train.ids
    covered = bool(found.covered_N.any())
    return {
        "out_of_bag": {m: found.score(m, bags.labels_N) for m in fitting_metrics(fitting)} if covered else {},
        "rows": len(bags.labels_N),
        "rows_without_estimate": len(found.uncovered),
        "named_without_estimate": [ids[row] for row in found.uncovered[:NAMED]],
        "mean_voters": float(found.voters_N.mean()),
    }


def _row(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((row for row in table["rows"] if row["name"] == name), {})
