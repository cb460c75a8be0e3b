"""Where an experiment's files are, whatever the working directory: paths written out, a run folder found where it lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.experiment_file.meaning import is_file_name

_SQLITE = "sqlite:///"


def absolute(experiment: Experiment) -> Experiment:
    """Return the experiment with `~` and the working directory written out in every path that it names."""
    data, search, tracking = experiment.data, experiment.search, experiment.tracking
    kind, colon, place = data.source.partition(":")
    paths = {key: written_out(value) for key in ("root", "cache_dir") if (value := getattr(data, key))}
    if kind in ("folder", "csv"):
        paths["source"] = f"{kind}{colon}{written_out(place)}"
    changes: dict[str, Any] = {
        "run_dir": written_out(experiment.run_dir),
        "data": data.model_copy(update=paths),
        "train": with_files(experiment.train),
        "baseline": with_files(experiment.baseline),
    }
    if search.space.endswith((".py", ".yaml", ".yml")):
        changes["search"] = search.model_copy(update={"space": written_out(search.space)})
    if tracking.uri.startswith(_SQLITE) and tracking.uri != _SQLITE:
        uri = f"{_SQLITE}{written_out(tracking.uri.removeprefix(_SQLITE))}"
        changes["tracking"] = tracking.model_copy(update={"uri": uri})
    return experiment.model_copy(update=changes)


def with_files(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return TrainConfig values with the path of a weights file written out, so that every worker finds it."""
    weights = str(values.get("weights", ""))
    return {**values, "weights": written_out(weights)} if is_file_name(weights) else dict(values)


def written_out(path: str | Path) -> str:
    """Return an absolute path without `~`, `.` and `..`; links stay as they are."""
    return os.path.normpath(Path(path).expanduser().absolute())


def lying_at(experiment: Experiment, folder: Path) -> Experiment:
    """Return a stored experiment whose run folder is `folder`, however it was named when it was written; raises UserError.

    A run folder that was renamed keeps its names in MLflow.
    """
    root = Path(written_out(folder))
    if root.name == experiment.name:
        return experiment.model_copy(update={"run_dir": str(root.parent)})
    kept = {
        "tracking": experiment.tracking.model_copy(update={"experiment": experiment.tracking_experiment}),
        "export": experiment.export.model_copy(update={"model_name": experiment.model_name}),
    }
    values = experiment.model_copy(update=kept).model_dump(mode="json")
    try:
        return Experiment.model_validate({**values, "name": root.name, "run_dir": str(root.parent)}, strict=False)
    except ValidationError as error:
        raise UserError(
            f"{root}: a run folder is called as the experiment's `name`, allowed: letters, digits and . _ - (64 at most)"
        ) from error
