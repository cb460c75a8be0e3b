"""What made the trials of a run folder: written into its ledger with the first of them, and held against every later opening.

What says how trials are run (where, how many at once, for how long, what is kept), how many there are, and what is made of
them afterwards (ensemble, export, tracking) is no part of it and may change at any time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import Experiment
from orchestrator.errors import ConfigError, UserError
from orchestrator.experiment_file.meaning import is_file_name
from orchestrator.experiment_file.places import absolute
from orchestrator.resolve import baseline_config, fixed_config, space_of
from orchestrator.search.ledger import Event, trial_logs
from orchestrator.store.records import TrialSpec
from search_spaces.space import to_dict
from trainables.config import RENAMED, TrainConfig

_DATA = ("source", "root", "task", "image_size", "channels", "val_fraction", "test_fraction", "split_seed", "limit")
_SEARCH = ("algorithm", "objective", "scheduler", "grace_epochs", "reduction_factor", "forbid", "seed_baseline")
_ANYWHERE = ("device", "workers", "eval_batch_size", "memory_format", "compile", "rows_file", "teacher_file")
"""Knobs of where and how a model is trained, not of what it learns."""
_UNASKED = tuple(f"train.{key}" for key in (*_ANYWHERE, *RENAMED))
"""Under its old name too, as older folders hold it."""
_OPEN = ("train.", "search.space.")
"""Keys that may be there or not; of all others only those are compared that were written down."""
_SEARCHED = "search.algorithm"
"""A key that is there once a trial was proposed."""
_ABSENT = "not set"

Values = Mapping[str, Any]
Change = tuple[str, Any, Any]
"""A key, what it was, what it is now."""


def identity(experiment: Experiment, *, search: bool) -> dict[str, Any]:
    """Return what may not change once a model is trained, and (`search`) once a trial is proposed, as JSON-ready keys."""
    experiment = absolute(experiment)
    found: dict[str, Any] = {"seed": experiment.seed, "search.metric": experiment.search.metric}
    found |= {f"data.{key}": getattr(experiment.data, key) for key in _DATA}
    if search:
        found |= {f"search.{key}": getattr(experiment.search, key) for key in _SEARCH}
        found |= {f"train.{key}": value for key, value in fixed_config(experiment).items() if key not in _ANYWHERE}
        space = to_dict(space_of(experiment))
        found |= {f"search.space.{key}": value for part in ("constants", "dimensions") for key, value in space[part].items()}
    values: dict[str, Any] = json.loads(json.dumps(found))
    return values


def known(events: Sequence[Event]) -> dict[str, Any]:
    """Return what the ledger's events say of the identity; what a search says is the whole of it."""
    found: dict[str, Any] = {}
    for event in events:
        if event["event"] == "identity":
            found = event["values"] if _SEARCHED in event["values"] else found | event["values"]
    return found


def check_identity(experiment: Experiment, events: Sequence[Event], root: Path) -> None:
    """Raise UserError naming every key that made what the run folder holds and is another one now.

    A folder without a trial of the search and without a trained epoch holds nothing yet.
    """
    logs = trial_logs(events)
    if not any(log.epochs or log.spec.kind == "trial" for log in logs.values()):
        return
    before, now = known(events), identity(experiment, search=False)
    proposed = any(log.spec.kind == "trial" for log in logs.values())
    searched = _SEARCHED in before and proposed
    if proposed:  # a folder that is older than the key has searched with each trial's own score
        before, now = {"search.objective": "own", **before}, {**now, "search.objective": experiment.search.objective}
    if searched:
        with contextlib.suppress(ConfigError):  # a space that cannot be read is said by whoever needs it
            now = identity(experiment, search=True)
    keys = [key for key in {**before, **now} if key in before and key in now]
    if _SEARCHED in now:
        keys = [key for key in {**before, **now} if key in keys or (key.startswith(_OPEN) and key not in _UNASKED)]
    changes = _differences(before, now, keys)
    baseline = logs.get("baseline")
    if baseline is not None and not baseline.barren:
        told = {key.rpartition(".")[2] for key, *_ in changes}
        found = config_changes(baseline.first.config, baseline_config(experiment))
        changes += [(f"baseline.{key}", old, new) for key, old, new in found if key not in told]
    _refuse(str(root), changes)


def check_spec(trained: TrialSpec, wanted: TrialSpec, root: Path) -> None:
    """Raise UserError where a listed training is there under this id with another configuration."""
    changes = config_changes(trained.config, wanted.config)
    _refuse(f"{root}: {wanted.trial_id}", [(f"train.{key}", old, new) for key, old, new in changes])


def config_changes(before: Values, now: Values) -> list[Change]:
    """Return (key, old, new) of every knob that makes another model; defaults that are not written down are equal."""
    old, new = _full(before), _full(now)
    return _differences(old, new, [key for key in {**old, **new} if key not in _ANYWHERE])


def _full(config: Values) -> dict[str, Any]:
    try:
        return TrainConfig.from_dict(config).to_dict()
    except ValueError:  # a training that failed for it
        return dict(config)


def _differences(before: Values, now: Values, keys: Sequence[str]) -> list[Change]:
    pairs = [(key, before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in keys]
    return [pair for pair in pairs if pair[1] != pair[2] and not _moved(*pair)]


def _moved(key: str, before: Any, now: Any) -> bool:
    """Return whether a file or folder is named that is no longer where it was; that the data are the same is seen later."""
    old, new = Path(str(before).partition(":")[2] or str(before)), Path(str(now).partition(":")[2] or str(now))
    if key in ("data.source", "data.root"):
        return old.is_absolute() and new.is_absolute() and not old.exists()
    if key.endswith("weights") and is_file_name(str(before)):
        return old.name == new.name and not old.exists()
    return False


def _refuse(place: str, changes: Sequence[Change]) -> None:
    if changes:
        said = "\n".join(f"  {line}" for line in _lines(changes))
        raise UserError(
            f"{place}: trained with other settings than are asked for now:\n{said}\n"
            "take these back, name the run's folder instead of the file to go on with it as it is, or start another beside it: "
            "-o name=NAME"
        )


def _lines(changes: Sequence[Change]) -> Iterator[str]:
    for key, before, now in changes:
        yield f"{key}: was {_shown(before)}, now {_shown(now)}"


def _shown(value: Any) -> str:
    text = value if value == _ABSENT else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
