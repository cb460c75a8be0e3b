"""Examine a user's own model and data for the known mistakes of modes, pipelines and labels, each answered in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config
from orchestrator.setup.check import load_data
from orchestrator.setup.label_guard import guard_for
from trainables.config import TrainConfig

if TYPE_CHECKING:
    from trainables.data.dataset import Splits
    from trainables.guards import GuardResult


def examine(experiment: Experiment) -> list[GuardResult]:
    """Return what every check found on the baseline's model and the experiment's data; raises UserError."""
    from trainables.guards import run_guards

    config, splits = TrainConfig.from_dict(baseline_config(experiment)), load_data(experiment)
    try:
        return [
            first_batch(config, splits),
            *run_guards(config, splits),
            labels_survive(config, splits.classes, experiment.search.forbid),
        ]
    except ValueError as error:
        raise UserError(str(error)) from error


def first_batch(config: TrainConfig, splits: Splits) -> GuardResult:
    """Check the first training batch: its shape, and that every number in it is finite and of a network's usual size."""
    import torch

    from trainables.guards import GuardResult
    from trainables.image_model import ImageModel

    model = ImageModel(config.replace(device="cpu", precision="fp32", compile="off", finetune_depth="all"), splits)
    batch = next(model.batches())
    shape = " x ".join(map(str, batch.images.shape))
    low, high = float(batch.images.min()), float(batch.images.max())
    found = f"the first batch is {shape} (images x channels x height x width), {low:.1f} to {high:.1f}"
    if not bool(torch.isfinite(batch.images).all()):
        return GuardResult("first_batch", False, f"{found}: not finite; look at the images and the statistics")
    if low == high:
        return GuardResult("first_batch", False, f"{found}: every pixel is the same; are these the right files?")
    return GuardResult("first_batch", True, f"{found}, labels {len(batch.labels)}")


def labels_survive(config: TrainConfig, classes: tuple[str, ...], forbid: Sequence[str] = ()) -> GuardResult:
    """Check that the augmentation set holds no operation that is forbidden, or turns one of these classes into another."""
    from trainables.augment import ops_of
    from trainables.guards import GuardResult

    guard, used = guard_for(classes), ops_of(config.augmentation)
    reasons = [("search.forbid names it", used & set(forbid))]
    reasons += [(guard.reason, used & set(guard.forbid))] if guard else []
    for reason, barred in reasons:
        if barred:
            message = f"train.augmentation {config.augmentation!r} may {', '.join(sorted(barred))}, but {reason}"
            return GuardResult("labels", False, f"{message}; choose another set, and let search.forbid name it")
    return GuardResult("labels", True, f"nothing in the augmentation set {config.augmentation!r} is known to change a label")
