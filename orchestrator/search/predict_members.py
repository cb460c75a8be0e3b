"""Probabilities of members from their kept weights, seen as each was trained to be seen, and into the prediction bank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import UserError
from orchestrator.search.targets import splits_of_run
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from trainables.config import TrainConfig
from trainables.data import DataConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.inference import InferenceModel

BATCH = 256
Heard = Callable[[int], None]
"""Hears how many more images have been predicted."""


def predict_split(
    workspace: Workspace, data: DataConfig, trial_ids: Sequence[str], split: str, *, heard: Heard = lambda _: None
) -> None:
    """Fill the bank with the members' probabilities of `split`, each through its own config's `tta`; those there stay.

    Raises UserError for a member whose weights were dropped, and for other data than the run folder holds.
    """
    bank = PredictionBank(workspace)
    part = splits_of_run(workspace, data, split).part(split)
    for trial_id in trial_ids:
        if bank.has(trial_id, split):
            heard(len(part))
            continue
        module = load_record(workspace, data, workspace.load_record(trial_id))
        bank.put(trial_id, split, predict_module(module, part.images, heard=heard))


def load_record(workspace: Workspace, data: DataConfig, record: MemberRecord) -> InferenceModel:
    """Return a member from uint8 images [N, H, W, C] to probabilities [N, C] through its own `tta`; raises UserError."""
    from trainables.inference import load_inference
    from trainables.models import member_pipeline

    weights, splits = workspace.weights(record.trial_id), splits_of_run(workspace, data)
    if not weights.exists():
        raise UserError(
            f"{record.trial_id}: its weights were dropped; raise search.keep_weights or search.disk_cap_gb and search anew"
        )
    config = TrainConfig.from_dict(record.config)
    pipeline = member_pipeline(config, splits, weights)
    return load_inference(config, weights, outputs=splits.outputs, channels=splits.image_shape[2], pipeline=pipeline)


def predict_module(module: nn.Module, images: NDArray[np.uint8], *, heard: Heard = lambda _: None) -> NDArray[np.float32]:
    """Return what a module from uint8 images [N, H, W, C] to probabilities [N, C] says, on the best device there is."""
    import torch

    from trainables.feed import ImageFeed
    from trainables.loop import evaluate
    from trainables.runtime import choose_device

    device = choose_device("auto", "fp32")
    feed = ImageFeed(images, device)

    def batches() -> Iterator[Tensor]:
        for rows in torch.split(torch.arange(len(images)), BATCH):
            yield feed.gather(rows)
            heard(len(rows))

    found: NDArray[np.float32] = evaluate(module.to(device), batches())
    return found
