"""Training batches of one trial or of several at once: what many small batches have in common is done once for all of them.

Trials that treat their images alike share a block of steps, which is gathered, augmented, mixed and normalised as one batch.
Each sample keeps the draws of its own trial, epoch and row, so a trial gets bit for bit the batches that it would get alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.augment import augment_batch, parse_set
from trainables.config import TrainConfig
from trainables.feed import ImageFeed, Stream
from trainables.inference import prepare
from trainables.loop import Batch
from trainables.mixing import mix_batch
from trainables.models import InputPipeline
from trainables.portion import Portion
from trainables.runtime import parameter_dtype

AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 22}
"""Values (pixels times channels) of a block that is more than one batch of one trial. A CPU's is what was never slower than
batch after batch, from 8 to 224 px and 1 to 64 trials; a GPU's is not measured: it should keep one busy."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a trial's training batches are made of."""

    config: TrainConfig
    portion: Portion
    feed: ImageFeed
    stream: Stream
    """Loads images by row: the feed's own, or worker processes."""
    pipeline: InputPipeline
    classes: int
    """0 for regression."""


@dataclass(frozen=True)
class Request:
    """An epoch of a source: with its targets mixed where the config asks for it, in a memory format."""

    source: Source
    epoch: int
    mixed: bool = True
    layout: torch.memory_format = torch.contiguous_format

    @property
    def mixes(self) -> bool:
        """Tell whether samples are mixed with their neighbours."""
        return self.mixed and bool(self.source.config.mixup or self.source.config.cutmix)

    def kind(self) -> Hashable:
        """Return what requests must share to be answered together; None for one whose batches are made one by one.

        These are images that are decoded when they are asked for, own transforms, and on a CPU the sets that convolve: the last
        bits of its convolutions depend on how many images they are given.
        """
        source, config = self.source, self.source.config
        chosen = parse_set(config.augmentation)
        convolves = bool(chosen.policies) or "blur" in chosen.ops
        decoded = isinstance(source.feed.images, np.ndarray) and source.stream == source.feed.stream
        if not decoded or chosen.own or (convolves and source.feed.device.type == "cpu"):
            return None
        taught = source.portion.aims is not source.portion.labels
        return (
            id(source.feed.images), source.feed.device, source.pipeline, source.classes, self.layout, config.task,
            parameter_dtype(config.precision), config.augmentation, config.magnitude, len(source.portion.rows),
            source.portion.steps, taught, (config.mixup, config.cutmix) if self.mixes else None,
        )  # fmt: skip


def make_batches(requests: Sequence[Request]) -> Iterator[list[Batch]]:
    """Yield, step by step, the batch of every request; the requests have as many steps as one another."""
    alike: dict[Hashable, list[int]] = {}
    for place, request in enumerate(requests):
        alike.setdefault(request.kind() or place, []).append(place)
    shares = [share for places in alike.values() for share in _shares(places, requests[places[0]])]
    order = np.argsort(np.concatenate(shares))
    streams = [_together([requests[place] for place in share]) for share in shares]
    for found in zip(*streams, strict=True):
        batches = list(itertools.chain.from_iterable(found))
        yield [batches[place] for place in order]


def ready(images: Tensor, pipeline: InputPipeline, layout: torch.memory_format) -> Tensor:
    """Return float images [B, C, H, W] in [0, 1] as a network takes them: size, normalisation, memory layout."""
    return prepare(images, pipeline).contiguous(memory_format=layout)


def _shares(places: list[int], request: Request) -> list[list[int]]:
    """Return the places of requests of one kind, at most as many together as a block may hold a step of."""
    several = max(1, _batches_at_once(request))
    return [places[start : start + several] for start in range(0, len(places), several)]


def _batches_at_once(request: Request) -> int:
    """Return how many batches a block may hold (0: not even one, but one it is)."""
    if request.kind() is None:
        return 1
    source, side = request.source, request.source.pipeline.image_size
    image = max(math.prod(source.feed.images.shape[1:]), source.pipeline.channels * side * side)
    return AT_ONCE[source.feed.device.type] // (image * math.ceil(len(source.portion.rows) / source.portion.steps))


def _blocks(portion: Portion, several: int) -> list[tuple[slice, int]]:
    """Return (places in the order, steps) of an epoch's blocks, each of `several` batches at most, all of one size.

    Batches are those of `Tensor.tensor_split`: the first ones may have a row more than the rest.
    """
    size, larger = divmod(len(portion.rows), portion.steps)
    found, start = [], 0
    for count, rows in ((larger, size + 1), (portion.steps - larger, size)):
        for first in range(0, count, several):
            steps = min(several, count - first)
            found.append((slice(start, start + steps * rows), steps))
            start += steps * rows
    return found


def _together(requests: Sequence[Request]) -> Iterator[list[Batch]]:
    """Yield, step by step, the batches of requests of one kind."""
    first, portions = requests[0], [request.source.portion for request in requests]
    device, plain = first.source.feed.device, portions[0].aims is portions[0].labels
    orders = [portion.order(request.epoch) for portion, request in zip(portions, requests, strict=True)]
    positions, names = (torch.stack(parts) for parts in zip(*orders, strict=True))
    rows = _picked([torch.from_numpy(portion.rows) for portion in portions], positions)
    blocks = _blocks(portions[0], max(1, _batches_at_once(first) // len(requests)))
    stream = first.source.stream([_in_steps(rows[:, part], steps).flatten() for part, steps in blocks])
    positions, names = positions.to(device), names.to(device)
    labels = _picked([portion.labels for portion in portions], positions)
    numbers = [[(request.source.config.seed, request.epoch)] for request in requests]
    seeds, epochs = torch.tensor(numbers, device=device).unbind(-1)
    for images, (part, steps) in zip(stream, blocks, strict=True):
        own, index = _in_steps(labels[:, part], steps), _in_steps(names[:, part], steps)
        aims = own if plain else _in_steps(_picked([p.aims for p in portions], positions[:, part]), steps)
        images, targets = _treated(images, aims, first, seed=seeds, epoch=epochs, sample_index=index)
        for batch in zip(images, targets, own, strict=True):
            yield [Batch(*slot) for slot in zip(*(values.unbind() for values in batch), strict=True)]


def _treated(images: Tensor, aims: Tensor, request: Request, **draws: Tensor) -> tuple[Tensor, Tensor]:
    """Turn stored images and aims [steps, slots, B, ...] into what the networks take and are trained towards."""
    source, config, shape = request.source, request.source.config, aims.shape[:3]
    dtype = parameter_dtype(config.precision)
    images = augment_batch(images, name=config.augmentation, magnitude=config.magnitude, dtype=dtype, **draws)
    if request.mixes:
        flat, classes = aims.flatten(0, 2), source.classes
        images, flat = mix_batch(images, flat, classes=classes, mixup=config.mixup, cutmix=config.cutmix, **draws)
        aims = torch.unflatten(flat, 0, shape)
    return torch.unflatten(ready(images, source.pipeline, request.layout), 0, shape), aims


def _picked(values: Sequence[Tensor], positions: Tensor) -> Tensor:
    """Return [slots, N, ...]: each slot's own values at its positions [slots, N]."""
    return torch.stack([own[chosen] for own, chosen in zip(values, positions, strict=True)])


def _in_steps(values: Tensor, steps: int) -> Tensor:
    """Return [slots, steps * B, ...] as [steps, slots, B, ...]."""
    return torch.unflatten(values, 1, (steps, values.shape[1] // steps)).transpose(0, 1)
