"""What an experiment means: its data, its baseline, what is fixed in every trial, and the space that its search walks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.errors import ConfigError, UserError
from orchestrator.experiment_file import read_space
from orchestrator.experiment_file.meaning import is_file_name
from orchestrator.experiment_file.places import absolute, with_files
from orchestrator.experiment_file.problems import knob_problem
from search_spaces.dimensions import Choice, levels
from search_spaces.space import Space, narrow
from trainables.config import TrainConfig

if TYPE_CHECKING:
    from trainables.data.dataset import DataConfig

_PLAIN = {"augmentation": "none", "dropout": 0.0, "weight_decay": 1e-5}
"""A baseline as good as unregularised, yet a point of the built-in spaces (`train:` and `baseline:` may say otherwise)."""
_CLASSES_ONLY = ("label_smoothing", "mixup", "cutmix", "class_weights", "sampler", "focal_gamma")
"""Knobs that mean nothing where the target is a number."""


def data_config(experiment: Experiment) -> DataConfig:
    """Return where the images are and how they are split, with absolute paths."""
    from trainables.data.dataset import DataConfig

    return DataConfig(**absolute(experiment).data.model_dump())


def fixed_config(experiment: Experiment) -> dict[str, Any]:
    """Return the TrainConfig values of every trial that the space does not draw: `train:` and the task."""
    return with_files({"task": experiment.data.task, **experiment.train})


def places_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a config's values that say where a file lies; what it is does not change with that."""
    return {"weights": config["weights"]} if is_file_name(str(config.get("weights", ""))) else {}


def baseline_config(experiment: Experiment) -> dict[str, Any]:
    """Return the baseline's full TrainConfig values: plain, then `train:`, then `baseline:`; raises UserError."""
    values = {"seed": experiment.seed, **_PLAIN, **fixed_config(experiment), **with_files(experiment.baseline)}
    return _train_config(values, "baseline").to_dict()


def frozen_untrained(section: str, values: Mapping[str, Any]) -> str:
    """Return what to say where a config freezes layers although it loads no weights ("": it does not)."""
    depth = values.get("finetune_depth", "all")
    if depth == "all" or values.get("weights", "none") != "none":
        return ""
    return (
        f"{section}.finetune_depth: {depth!r} without pretrained weights, so that layers which were never trained stay as they "
        "are; set weights (default, or a file), or finetune_depth: all"
    )


def space_of(experiment: Experiment, diagnosis: Mapping[str, Any] | None = None) -> Space:
    """Return the space of the search, without what is forbidden and with what the diagnosis recommends; raises UserError.

    `diagnosis` holds lists of augmentation words under "forbidden" and "recommended".
    """
    found = diagnosis or {}
    space = read_space(experiment.search.space)
    check_knobs(space, experiment.search.space)
    if experiment.data.task == "regression":
        space = dataclasses.replace(space, dimensions=tuple(d for d in space.dimensions if d.name not in _CLASSES_ONLY))
    try:
        return narrow(space, [*experiment.search.forbid, *found.get("forbidden", ())], found.get("recommended", ()))
    except ValueError as error:
        raise UserError(f"search.space: {error}") from error


def check_knobs(space: Space, place: str) -> None:
    """Raise ConfigError for every constant, option or bound of a space that no TrainConfig takes."""
    values: list[tuple[str, Any]] = list(space.constants.items())
    for dimension in space.dimensions:
        ends = dimension.options if isinstance(dimension, Choice) else levels(dimension, 2)
        values += [(dimension.name, value) for value in ends]
    found = [(key, knob_problem(key, value)) for key, value in values]
    problems = dict.fromkeys(f"{place}: space {space.name!r}: {key}: {message}" for key, message in found if message)
    if problems:
        raise ConfigError(list(problems))


def _train_config(values: Mapping[str, Any], section: str) -> TrainConfig:
    from trainables.models import builder_of

    try:
        config = TrainConfig.from_dict(values)
        builder_of(config.model)
        return config
    except ValueError as error:
        raise UserError(f"{section}: {str(error).removeprefix('train.')}") from error
