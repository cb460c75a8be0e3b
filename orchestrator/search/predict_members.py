"""Probabilities of chosen members on a split they were not scored on: from their kept weights, into the bank."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import UserError
from orchestrator.search.trial import splits_of
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import Workspace
from trainables.config import TrainConfig
from trainables.data import DataConfig

BATCH = 256


def predict_split(
    workspace: Workspace, data: DataConfig, trial_ids: Sequence[str], split: str, *, tta: str = "none", again: bool = False
) -> None:
    """Fill the bank with the members' probabilities of `split`, seen through `tta`; those already there stay unless `again`.

    Raises UserError for a member whose weights were dropped.
    """
    bank = PredictionBank(workspace)
    splits = splits_of(data)
    part = splits.part(split)
    bank.put_targets(split, part.targets, part.ids, splits.fingerprint)
    for trial_id in trial_ids:
        if again or not bank.has(trial_id, split):
            _predict(workspace, bank, data, trial_id, split, tta)


def _predict(workspace: Workspace, bank: PredictionBank, data: DataConfig, trial_id: str, split: str, tta: str) -> None:
    import torch

    from trainables.feed import ImageFeed
    from trainables.inference import load_inference
    from trainables.loop import evaluate
    from trainables.models import input_pipeline
    from trainables.runtime import choose_device

    record, splits = workspace.load_record(trial_id), splits_of(data)
    weights = workspace.weights(trial_id)
    if not weights.exists():
        raise UserError(
            f"{trial_id}: its weights were dropped; raise search.keep_weights or search.disk_cap_gb and run the search anew"
        )
    config = TrainConfig.from_dict(record.config).replace(tta=tta)
    channels = splits.image_shape[2]
    model = load_inference(config, weights, outputs=splits.outputs, channels=channels, pipeline=input_pipeline(config, splits))
    device = choose_device(config.device, "fp32")
    feed = ImageFeed(splits.part(split).images, device)
    rows = torch.arange(len(splits.part(split)))
    batches = (feed.gather(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
    bank.put(trial_id, split, evaluate(model.to(device), batches))
