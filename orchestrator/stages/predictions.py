"""Probabilities of any member on any split, seen as asked, without writing them into the prediction bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.context import Context
from orchestrator.store.records import MemberRecord

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.dataset import Splits

BATCH = 256


def splits_of(context: Context) -> Splits:
    """Return the decoded splits, loaded once a process."""
    from orchestrator.search.trial import splits_of as loaded

    return loaded(context.data)


def predict_module(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what a module from uint8 images [N, H, W, C] to probabilities [N, C] says, on the best device there is."""
    import torch

    from trainables.feed import ImageFeed
    from trainables.loop import evaluate
    from trainables.runtime import choose_device

    device = choose_device("auto", "fp32")
    feed = ImageFeed(images, device)
    rows = torch.arange(len(images))
    batches = (feed.gather(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
    found: NDArray[np.float32] = evaluate(module.to(device), batches)
    return found


def predict_member(context: Context, record: MemberRecord, split: str, *, tta: str) -> NDArray[np.float32]:
    """Return a member's probabilities of a split through the named views."""
    from orchestrator.deliver.export import load_member

    seen = record.replace(config={**record.config, "tta": tta})
    splits = splits_of(context)
    module = load_member(seen, context.workspace.weights(record.trial_id), splits)
    return predict_module(module, splits.part(split).images)
