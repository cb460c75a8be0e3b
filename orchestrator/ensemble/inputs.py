"""The door of the ensembling room: what comes in is checked once, and what was done about it is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Labels, Members, Predictions
from orchestrator.ensemble.metrics import REGRESSION

SUM_TOLERANCE = 0.02
"""How far from one a row may sum: float16 rounding of a thousand classes stays well below it."""


class Checked(NamedTuple):
    """The members that may be used, their labels, and one sentence for each thing that was done."""

    members: Members
    labels_N: Labels
    kept: tuple[int, ...]
    notices: tuple[str, ...]


def check_pool(
    predictions: Predictions | Members,
    labels: Sequence[float] | NDArray[np.generic],
    *,
    metric: str,
    ids: Sequence[str],
) -> Checked:
    """Refuses what cannot be meant, drops non-finite members and duplicates, and notices what weakens the result.

    Args:
        predictions: probabilities [M, N, C], or M arrays [N, C]; predictions [M, N, 1] for regression.
        labels: class indices [N], or targets for regression.
        metric: a name of `METRICS`; it tells the task.
        ids: a name a member, used in messages.

    Raises:
        ValueError: no member, unequal shapes, labels that do not fit, rows that are no probabilities,
            one class only, or no finite member left.
    """
    members = Members.of(predictions)
    regression = metric in REGRESSION
    n_rows, n_classes = _check_shapes(members, ids, regression=regression)
    labels_N = _check_labels(np.asarray(labels), n_rows, n_classes, regression=regression)
    kept, notices = _screen(members, ids, labels_N, regression=regression)
    if len(kept) == 1:
        notices.append("One usable member: the ensemble is that single model.")
    if n_rows < len(kept):
        notices.append(
            f"Fewer validation rows ({n_rows}) than members ({len(kept)}): weights are shrunk more toward uniform; "
            "more validation images would help."
        )
    return Checked(members.take_members(kept), labels_N, tuple(kept), tuple(notices))


def _check_shapes(members: Members, ids: Sequence[str], *, regression: bool) -> tuple[int, int]:
    if len(members) == 0:
        raise ValueError("no member came: an ensemble needs at least one trial with saved predictions; run a search first")
    if len(ids) != len(members):
        raise ValueError(f"{len(members)} members came with {len(ids)} ids; give one id a member")
    shapes = [np.shape(members.source[index]) for index in members.indices]
    odd = [f"{name}: {shape}" for name, shape in zip(ids, shapes, strict=True) if shape != shapes[0]]
    if odd:
        raise ValueError(
            f"members must predict the same rows and classes; {ids[0]} has shape {shapes[0]} but {_some(odd)}; "
            "keep only members of one data fingerprint"
        )
    if len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(f"a member's predictions must be a non-empty array [rows, classes]; got shape {shapes[0]}")
    n_classes = int(shapes[0][1])
    if regression != (n_classes == 1):
        expected = "one column for a regression metric" if regression else "two columns or more for a classification metric"
        raise ValueError(f"predictions need {expected}; got {n_classes} columns")
    return int(members.read(0).shape[0]), n_classes


def _check_labels(labels: NDArray[np.generic], n_rows: int, n_classes: int, *, regression: bool) -> Labels:
    if labels.ndim != 1 or len(labels) != n_rows:
        raise ValueError(f"labels must be [{n_rows}], one a predicted row; got shape {labels.shape}")
    values = labels.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} labels are not finite numbers")
    if regression:
        return values
    if (values != np.floor(values)).any() or values.min() < 0 or values.max() >= n_classes:
        raise ValueError(
            f"labels must be whole numbers from 0 to {n_classes - 1} (the predictions have {n_classes} classes); "
            f"got values from {values.min():g} to {values.max():g}"
        )
    if n_rows > 1 and values.min() == values.max():
        raise ValueError(
            f"validation holds one class only (label {int(values[0])}): nothing can be chosen on it; use a stratified split"
        )
    return values.astype(np.int64)


def _screen(members: Members, ids: Sequence[str], labels_N: Labels, *, regression: bool) -> tuple[list[int], list[str]]:
    """One pass over the members: drops the non-finite and the doubled, refuses what is no probability."""
    kept: list[int] = []
    broken: list[str] = []
    doubled: list[str] = []
    invalid: list[str] = []
    seen: dict[bytes, int] = {}
    rows_N = np.arange(len(labels_N))
    columns_N = np.zeros(len(labels_N), dtype=np.int64) if regression else labels_N.astype(np.int64)
    for index in range(len(members)):
        values_NC = members.read(index)
        if not np.isfinite(values_NC).all():
            broken.append(ids[index])
            continue
        if not regression and (values_NC.min() < 0 or np.abs(values_NC.sum(axis=1) - 1.0).max() > SUM_TOLERANCE):
            invalid.append(ids[index])
            continue
        key = values_NC[rows_N, columns_N].tobytes()
        if key in seen and np.array_equal(members.read(seen[key]), values_NC):
            doubled.append(f"{ids[index]} = {ids[seen[key]]}")
            continue
        seen.setdefault(key, index)
        kept.append(index)
    return kept, _verdicts(broken, doubled, invalid, kept)


def _verdicts(broken: list[str], doubled: list[str], invalid: list[str], kept: list[int]) -> list[str]:
    if invalid:
        raise ValueError(
            f"{len(invalid)} members hold rows that are no probabilities (negative, or not summing to one): "
            f"{_some(invalid)}; if they are logits, apply a softmax first"
        )
    if not kept:
        raise ValueError(f"all {len(broken)} members hold NaN or infinite predictions: {_some(broken)}; none can be used")
    notices = []
    if broken:
        notices.append(f"Dropped {len(broken)} members with NaN or infinite predictions: {_some(broken)}.")
    if doubled:
        notices.append(f"Dropped {len(doubled)} exact duplicates: {_some(doubled)}.")
    return notices


def _some(names: Sequence[str], limit: int = 5) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
