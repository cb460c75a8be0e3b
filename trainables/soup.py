"""Weight soups: the mean of several trained networks' weights as one network, its BatchNorm statistics measured anew.

Model soups, Wortsman et al. (ICML 2022). It works where the networks share a start (fine-tuning from the same weights);
networks trained from different random starts lie in different basins and their mean is no better than chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.augment import to_float
from trainables.checkpoint import load_weights
from trainables.config import TrainConfig
from trainables.data.dataset import Splits
from trainables.feed import shuffled
from trainables.inference import SCALE, SHIFT, InferenceModel, build_network, prepare, split_target_scale
from trainables.models import InputPipeline, member_pipeline
from trainables.models.freezing import recalibrate_bn

BATCHES, BATCH = 20, 128
"""Training batches that measure BatchNorm statistics anew."""


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every floating tensor (float32); counters are the first one's; raises ValueError for other shapes."""
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    if not states or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"a soup needs networks of one shape, got {len(states)} with {len({str(s) for s in shapes})} shapes")
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


class Soup(NamedTuple):
    """A soup's weights as `Trainable.weights` gives them, and the module that predicts with them."""

    weights: dict[str, Tensor]
    module: InferenceModel


def mix(config: TrainConfig, paths: Sequence[Path], splits: Splits) -> Soup:
    """Return the soup of the weights in `paths`, all of `config`'s network."""
    plain = config.replace(weights="none", precision="fp32", device="cpu", compile="off")
    pipeline = member_pipeline(config, splits, paths[0])
    averaged, shift, scale = split_target_scale(average_weights([load_weights(path) for path in paths]))
    network = build_network(plain, pipeline, outputs=splits.outputs)
    network.load_state_dict(averaged)
    recalibrate_bn(network, _batches(splits, pipeline, seed=config.seed))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    if config.task == "regression":
        weights |= {SHIFT: torch.tensor(shift), SCALE: torch.tensor(scale)}
    module = InferenceModel(network, pipeline, config=plain, shift=shift, scale=scale)
    return Soup(weights, module.eval().requires_grad_(False))


def _batches(splits: Splits, pipeline: InputPipeline, *, seed: int) -> Iterator[Tensor]:
    """Yield some of the training images as the network takes them, without augmentation."""
    order = shuffled(len(splits.train), seed=seed, epoch=0)[: BATCHES * BATCH].numpy()
    for start in range(0, len(order), BATCH):
        yield prepare(to_float(torch.from_numpy(splits.train.images[order[start : start + BATCH]])), pipeline)
