"""What an experiment will do, before it does: resolved, the size of its space, warnings, and an estimate of the cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config, data_config, fixed_config, frozen_untrained, space_of
from orchestrator.setup.cost import Cost, Measured, estimate
from orchestrator.setup.label_guard import guard_for
from search_spaces.dimensions import Choice, Dimension
from search_spaces.space import RandomTrial, Space, draw, size, to_dict
from trainables.config import TrainConfig
from trainables.cores import usable_cpus

if TYPE_CHECKING:
    from trainables.data.dataset import ImageSet, Splits

PROBE_ROWS, FEW_ROWS, PROBE_SIDE = 256, 64, 96
"""A measured epoch takes this many training rows, fewer (down to FEW_ROWS) of images larger than PROBE_SIDE."""
SLOW = 4.0
"""Seconds of a first epoch after which it is taken as it is; a faster one is timed again, warm."""
PROBE_DRAWS = 5
"""Configurations of the space that are timed beside the baseline, as long as `PROBE_SECONDS` are not spent."""
PROBE_SECONDS = 30.0


@dataclass(frozen=True)
class CheckReport:
    """Everything `orchestrate check` says; `str` of it is the page, `to_dict` the JSON."""

    experiment: Experiment
    space: Space
    cost: Cost
    warnings: tuple[str, ...]
    data: tuple[str, ...] = ()
    """What the data hold (only where they were loaded for the measurement)."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        return {
            "experiment": self.experiment.model_dump(mode="json"),
            "space": to_dict(self.space),
            "space_size": {"dimensions": len(self.space.dimensions), "grid_of_three": size(self.space)},
            "cost": self.cost.to_dict(),
            "warnings": list(self.warnings),
            "data": list(self.data),
        }

    def __str__(self) -> str:
        """Return the page."""
        import yaml

        resolved = yaml.safe_dump(self.experiment.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
        sections = [
            ("experiment", resolved.rstrip().splitlines()),
            ("data", list(self.data)),
            (f"space {self.space.name}: {_size_in_words(self.space)}", [describe(d) for d in self.space.dimensions]),
            ("cost", _cost_lines(self.cost)),
            ("warnings", [f"! {warning}" for warning in self.warnings]),
        ]
        return "\n\n".join("\n".join([f"{title}:", *(f"  {line}" for line in lines)]) for title, lines in sections if lines)


def check(experiment: Experiment, *, measure: bool = True, say: Callable[[str], None] = lambda _: None) -> CheckReport:
    """Return the report; with `measure`, load the data and time parts of epochs on this machine; raises UserError.

    `say` hears, for the person waiting, what takes its time.
    """
    space = space_of(experiment)
    baseline = baseline_config(experiment)
    warnings = [*_overridden(experiment, space), *_size_warnings(experiment, space), *_frozen(experiment, space, baseline)]
    data: tuple[str, ...] = ()
    measured = None
    if measure:
        say("check: reading the data")
        splits = load_data(experiment)
        say(f"check: timing the baseline and, for {PROBE_SECONDS:.0f} s at most, {PROBE_DRAWS} configurations of the space")
        measured = measure_costs(experiment, space, splits)
        data = _data_lines(splits)
        warnings += [*splits.notices, *_label_warnings(experiment, splits)]
    epochs = int({"epochs": TrainConfig().epochs, **fixed_config(experiment)}["epochs"])
    cost = estimate(experiment, epochs=epochs, cpus=usable_cpus(), gpus=_gpus() if measure else 0, measured=measured)
    return CheckReport(experiment, space, cost, tuple(warnings), data)


def measure_costs(experiment: Experiment, space: Space, splits: Splits) -> Measured:
    """Time the baseline and, while there is time, a few random configurations of the space; raises UserError."""
    import torch

    import trainables.image_model  # noqa: F401  (its import is not part of the time below)

    torch.set_num_threads(max(1, round(experiment.search.cpus_per_trial)))
    part = _part(splits)
    started = time.perf_counter()
    baseline = TrainConfig.from_dict(baseline_config(experiment))
    seconds, weights_mb = time_epoch(baseline, part)
    times, sizes = [seconds], [weights_mb]
    for seed in range(PROBE_DRAWS):
        if time.perf_counter() - started > PROBE_SECONDS:
            break
        drawn = {**fixed_config(experiment), **draw(space, RandomTrial(experiment.seed + seed))}
        found = time_epoch(TrainConfig.from_dict(drawn), part)
        times.append(found[0])
        sizes.append(found[1])
    scale = len(splits.train) / len(part.train)
    trial = sum(times[1:]) / len(times[1:]) if times[1:] else seconds
    return Measured(seconds * scale, trial * scale, max(sizes), len(times) - 1)


def time_epoch(config: TrainConfig, splits: Splits) -> tuple[float, float]:
    """Return (seconds of an epoch with its validation, megabytes of weights); raises UserError."""
    from trainables.image_model import ImageModel

    try:
        model = ImageModel(config.replace(epochs=2, warmup_epochs=0, average="none", compile="off"), splits)
        seconds = _time(model.step)
        if seconds < SLOW:
            seconds = _time(model.step)
    except ValueError as error:
        raise UserError(f"{config.model}: {error}") from error
    return seconds, sum(tensor.nbytes for tensor in model.weights().values()) / 1e6


def _time(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _part(splits: Splits) -> Splits:
    """Return evenly spread rows of train, and the same share of validation."""
    height, width, _ = splits.image_shape
    rows = max(FEW_ROWS, min(PROBE_ROWS, int(PROBE_ROWS * PROBE_SIDE**2 / (height * width))))
    share = rows / len(splits.train)
    if share >= 1:
        return splits
    return dataclasses.replace(splits, train=_thinned(splits.train, share), val=_thinned(splits.val, share))


def _thinned(images: ImageSet, share: float) -> ImageSet:
    """Return evenly spread rows, at least one."""
    import numpy as np

    count = max(1, round(len(images) * share))
    return images.take(np.linspace(0, len(images) - 1, count).astype(np.int64))


def load_data(experiment: Experiment) -> Splits:
    """Return the decoded splits; raises UserError."""
    from trainables.data import load_splits

    try:
        return load_splits(data_config(experiment))
    except ValueError as error:
        raise UserError(str(error)) from error


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _data_lines(splits: Splits) -> tuple[str, ...]:
    shape = " x ".join(map(str, splits.image_shape))
    classes = f"{len(splits.classes)} classes: {', '.join(splits.classes[:12])}{' ...' if len(splits.classes) > 12 else ''}"
    return (
        f"{len(splits.train):,} train, {len(splits.val):,} validation, {len(splits.test):,} test images of {shape}",
        classes if splits.classes else "numbers as targets",
        f"fingerprint {splits.fingerprint}; {len(splits.skipped)} files left out",
    )


def _overridden(experiment: Experiment, space: Space) -> list[str]:
    drawn = [key for key in experiment.train if key in space.keys]
    return [f"train.{key}: the space {space.name!r} draws it, so the fixed value only serves the baseline" for key in drawn]


def _frozen(experiment: Experiment, space: Space, baseline: Mapping[str, Any]) -> list[str]:
    """Return what is frozen without loaded weights: of the baseline, and of trials where the space leaves it to `train:`."""
    trial = {**fixed_config(experiment), **space.constants}
    drawn = {"weights", "finetune_depth"} & {d.name for d in space.dimensions}
    found = [("baseline", baseline), *([("train", trial)] if not drawn else [])]
    return [warning for section, values in found if (warning := frozen_untrained(section, values))]


def _size_warnings(experiment: Experiment, space: Space) -> list[str]:
    grid, trials = size(space), experiment.search.trials
    if grid == 1:
        return ["search.space: one single configuration; every trial would differ by its seed alone"]
    if experiment.search.algorithm == "grid" and grid > trials:
        return [f"search.algorithm: the grid has {grid:,} configurations, search.trials allows {trials}"]
    return []


def _label_warnings(experiment: Experiment, splits: Splits) -> list[str]:
    guard = guard_for(splits.classes)
    missing = [op for op in guard.forbid if op not in experiment.search.forbid] if guard else []
    return [f"search.forbid: {guard.reason}; consider forbid: [{', '.join(guard.forbid)}]"] if guard and missing else []


def describe(dimension: Dimension) -> str:
    """Return one dimension as a line: name, range or options, condition."""
    if isinstance(dimension, Choice):
        text = ", ".join(str(option).lower() if isinstance(option, bool) else str(option) for option in dimension.options)
    else:
        step = f", steps of {dimension.step:g}" if dimension.step not in (None, 1) else ""
        text = f"{dimension.low:g} to {dimension.high:g}{', log' if dimension.log else ''}{step}"
    when = dimension.when
    condition = f"   when {when.key} is {' or '.join(map(str, when.values))}" if when else ""
    return f"{dimension.name:16} {text}{condition}"


def _size_in_words(space: Space) -> str:
    fixed = f"; fixed: {', '.join(f'{k} {v}' for k, v in space.constants.items())}" if space.constants else ""
    return f"{len(space.dimensions)} dimensions, {size(space):,} configurations with three levels a number{fixed}"


def _cost_lines(cost: Cost) -> list[str]:
    low, likely, high = cost.epochs
    lines = [
        f"{cost.trials} trials of up to {cost.epochs_per_trial} epochs, {cost.concurrency} at a time; the scheduler lets "
        f"about {likely:.0f} of {high:.0f} epochs through (at least {low:.0f})",
        f"about {cost.other_epochs} epochs more for the baseline and the refits of the best (an ensemble of many members asks "
        "for more)",
    ]
    measured, seconds, disk = cost.measured, cost.seconds, cost.disk_mb
    if measured is None or seconds is None or disk is None:
        return [*lines, "seconds and disk: not measured (leave out --no-measure)"]
    return [
        *lines,
        f"an epoch takes {measured.baseline_seconds:.2g} s (baseline), {measured.trial_seconds:.2g} s "
        f"({'mean of ' + str(measured.draws) + ' random trials' if measured.draws else 'taken for trials too'}), measured here "
        "on a part of the images, one at a time",
        f"training takes about {_clock(seconds[1])}, between {_clock(seconds[0])} and {_clock(seconds[2])}; starting Ray, "
        "choosing the ensemble, export and report come on top",
        f"disk about {disk:.0f} MB (weights of up to {measured.weights_mb:.1f} MB a model)",
    ]


def _clock(seconds: float) -> str:
    """Return seconds as "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
