"""What is told of a trial, to a tracker and to whoever watches: configuration, tags, and numbers that changed on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.search.ledger import TrialLog
from orchestrator.store.records import TrialSpec
from trainables.config import OPEN, TrainConfig, config_hash


def params_of(spec: TrialSpec) -> dict[str, Any]:
    """Return the flat TrainConfig of a spec; of one that does not hold (its trial fails with the reason), what was given.

    What is left to the device is not in it: the record knows it at the end.
    """
    try:
        full = TrainConfig.from_dict(spec.config).to_dict()
    except ValueError:
        return dict(spec.config)
    return {key: value for key, value in full.items() if key not in OPEN or value != OPEN[key]}


def tags_of(spec: TrialSpec, fingerprint: str) -> dict[str, str]:
    """Return the tags by which a trial's run is found."""
    tags = {"kind": spec.kind, "model": str(params_of(spec).get("model", "")), "data_fingerprint": fingerprint}
    try:
        config = TrainConfig.from_dict(spec.config)
        tags["config_hash"] = "" if config.precision == OPEN["precision"] else config_hash(config)
    except ValueError:
        tags["config_hash"] = ""
    return tags | ({"parent": spec.parent} if spec.parent else {})


def numbers_taken(log: TrialLog) -> dict[str, float]:
    """Return, as metrics, the numbers that population training has changed since the trial's run was opened."""
    if log.spec is log.first:
        return {}
    changed = {key: value for key, value in log.spec.config.items() if log.first.config.get(key) != value}
    return {f"pbt/{key}": float(value) for key, value in changed.items() if isinstance(value, int | float)}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the numbers in which two configurations differ, in words: ": lr 0.1 -> 0.08, dropout 0.2 -> 0.24" ("": none)."""
    found = [
        f"{key} {before[key]:.3g} -> {value:.3g}"
        for key, value in after.items()
        if isinstance(value, int | float) and isinstance(before.get(key), int | float) and before[key] != value
    ]
    return f": {', '.join(found)}" if found else ""
