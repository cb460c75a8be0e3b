"""The controls that are trained or weighed: as many seeds of the best configuration, and a bigger single network."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.stages.fitting import CONTROL, WHOLE, Fitting
from orchestrator.store.records import MemberRecord, ranked

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble

SEEDS, BIGGER = "seed ensemble", "bigger single"
MUCH_BIGGER = 2.0
"""A network counts as bigger than the best single one with at least so many times its parameters."""


def seed_control(fitting: Fitting, *, size: int) -> dict[str, Ensemble]:
    """Return the uniform ensemble of `size` seeds of the best configuration (fewer where there are fewer; none of one)."""
    best = fitting.parents()[0]
    same = [r for r in fitting.trained() if r.kind in (*WHOLE, CONTROL) and r.config_hash == best.config_hash]
    others = sorted(
        (r for r in same if r.trial_id != best.trial_id), key=lambda r: (r.kind == CONTROL, len(r.trial_id), r.trial_id)
    )
    ids = [record.trial_id for record in (best, *others)][: max(2, size)]
    return {SEEDS: fitting.given(ids, SEEDS)} if len(ids) > 1 else {}


def bigger_control(fitting: Fitting, pool: Sequence[MemberRecord], single: Ensemble) -> dict[str, Ensemble]:
    """Return the single network with the most parameters, where the best single one has less than half as many."""
    weights = fitting.context.workspace.weights
    alone = ranked([record for record in pool if record.kind in WHOLE], fitting.context.experiment.search.metric)
    counts = {record.trial_id: parameters(weights(record.trial_id)) for record in alone}
    most = max(counts, key=lambda trial_id: counts[trial_id])  # of equals the first, which is the best
    if counts[most] < MUCH_BIGGER * parameters(weights(single.member_ids[0])):
        return {}
    return {BIGGER: fitting.given([most], BIGGER)}


def parameters(weights: Path) -> int:
    """Return how many numbers a .safetensors file holds, read from its header (8 bytes of length, then JSON)."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
