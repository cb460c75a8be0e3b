"""How similar data are to a backbone's pretraining data: how well neighbours in its frozen features agree on the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from trainables.config import TrainConfig
    from trainables.data.dataset import Splits

ROWS = 1_000
"""Training images looked at, evenly spread."""
NEIGHBOURS = 5


def knn_accuracy(features: NDArray[np.float32], targets: NDArray[np.int64], *, neighbours: int = NEIGHBOURS) -> float:
    """Return leave-one-out accuracy of the majority among the cosine-nearest rows of features [N, D] (ties: the nearer sum)."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    closeness = unit @ unit.T
    np.fill_diagonal(closeness, -np.inf)
    k = min(neighbours, len(features) - 1)
    nearest = np.argpartition(-closeness, k - 1, axis=1)[:, :k]
    votes = np.zeros((len(features), int(targets.max()) + 1))
    weight = 1.0 + np.take_along_axis(closeness, nearest, axis=1) * 1e-3
    np.add.at(votes, (np.arange(len(features))[:, None], targets[nearest]), weight)
    return float((votes.argmax(axis=1) == targets).mean())


def chance_corrected(accuracy: float, classes: int) -> float:
    """Return an accuracy as the share of the way from guessing (1 / classes) to perfect, at least 0."""
    return max(0.0, (accuracy - 1 / classes) / (1 - 1 / classes))


def similarity(config: TrainConfig, splits: Splits) -> float:
    """Return the chance-corrected kNN accuracy in [0, 1] of the backbone that `config` names; raises UserError."""
    if not splits.classes:
        raise UserError("advise: needs classes; with numbers as targets, search finetune_depth")
    features, targets = frozen_features(config.replace(finetune_depth="head"), splits)
    return chance_corrected(knn_accuracy(features, targets), len(splits.classes))


def frozen_features(config: TrainConfig, splits: Splits) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what enters the head [N, D], and the classes [N], of up to ROWS training images; raises UserError."""
    import torch

    from trainables.augment import to_float
    from trainables.features import cut_model
    from trainables.inference import build_network, prepare
    from trainables.models import input_pipeline

    rows = np.unique(np.linspace(0, len(splits.train) - 1, min(ROWS, len(splits.train))).astype(np.int64))
    part = splits.train.take(rows)
    try:
        pipeline = input_pipeline(config, splits)
        prefix = cut_model(build_network(config, pipeline, outputs=splits.outputs), config).prefix
    except ValueError as error:
        raise UserError(str(error)) from error
    chunks = []
    with torch.no_grad():
        for start in range(0, len(part), 64):
            images = to_float(torch.from_numpy(part.images[start : start + 64]))
            chunks.append(prefix(prepare(images, pipeline)).flatten(1))
    return torch.cat(chunks).float().numpy(), part.targets.astype(np.int64)
