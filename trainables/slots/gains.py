"""What a key's ways to train gain on this device: as one array, and as replayed graphs; measured once, by bucket of slots."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.allocator import out_of_memory
from trainables.config import fusion_key
from trainables.image_model import ImageModel
from trainables.loop import train_step
from trainables.models.freezing import apply_depth
from trainables.optim import build_optimizer
from trainables.runtime import memory_format
from trainables.slots.alone import Alone, Lone, Serially
from trainables.slots.array import SlotArray
from trainables.slots.graphs import Capture
from trainables.slots.layers import NotPackable
from trainables.slots.optimiser import SlotOptimizer, rules_of
from trainables.slots.pack import pack
from trainables.slots.probe import Build
from trainables.slots.stacked import stack
from trainables.slots.step import ArrayStep
from trainables.slots.timing import bucket, graph_gain, packing_gain
from trainables.timing import device_name, remembered_gain

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """One way to make K models one: how, and what it and its use are called."""

    build: Build
    said: str
    noun: str


PACKED = Way(pack, "packed", "packing")
VMAP = Way(stack, "by vmap", "vmap")
"""Slower than packing wherever both are right (measured), so it is tried where packing is wrong."""


class Gains:
    """What models like one of a key gain over training one after another step by step; `said` keeps each as words.

    With a `capture`, steps may be replayed as graphs, those of an array (the two gains are multiplied) and those of single
    models: an array pays where it beats both. Without, no step is.
    """

    def __init__(self, model: ImageModel, way: Way = PACKED, *, capture: Capture | None = None) -> None:
        self._model = copy.deepcopy(model.model).train()  # the model itself is about to train
        apply_depth(self._model, model.config)
        self._config, self._rules, self._way, self._capture = model.config, model.rules, way, capture
        self._images = random_batch(model)
        aims = model.portion.aims
        self._targets = aims[torch.arange(len(self._images), device=model.device) % len(aims)]
        self._words = (*fusion_key(model.config), model.pipeline.image_size, model.splits.outputs, device_name(model.device))
        self._pays, self._graphs = {1: False}, dict[tuple[str, int], float]()
        self.said: dict[int, str] = {}

    def pays(self, slots: int) -> bool:
        """Return whether so many slots train faster as one array than one after another, and fit the memory beside the rest."""
        size = bucket(slots)
        if size not in self._pays:
            gain = self.gain(size)
            replayed = self._graph(self._way, size) if gain else 0.0
            if replayed > 1.0:
                gain, self.said[size] = gain * replayed, f"{self.said[size]}, {replayed:.2f}x more as replayed graphs"
            self._pays[size] = gain >= max(1.0, self._graph(VMAP, 1))
            _LOG.info("%d slots: %s", size, self.said[size])
        return self._pays[size]

    def gain(self, slots: int) -> float:
        """Return the time of steps one after another over that of so many slots' (a bucket) as one array, not replayed."""
        gain, self.said[slots] = self._measured(f"{slots} slots", self._way.noun, slots, self._packing)
        return gain

    def array(self, models: list[ImageModel]) -> SlotArray:
        """Make an array of models in this way, its steps replayed where that pays."""
        replayed = self._graph(self._way, bucket(len(models))) > 1.0
        return SlotArray(models, build=self._way.build, capture=self._capture if replayed else None)

    def alone(self) -> tuple[Alone, str]:
        """Return how models train one after another, and that in words ("" where no graph is replayed)."""
        gain = self._graph(VMAP, 1)
        if gain <= 1.0:
            return Serially(), ""
        return Lone(lambda models: SlotArray(models, build=stack, capture=self._capture)), f" as replayed graphs, {gain:.2f}x"

    def _graph(self, way: Way, size: int) -> float:
        """Return the gain of replaying the step of an array of this size; 0.0 where nothing is recorded."""
        if self._capture is None:
            return 0.0
        if (way.noun, size) not in self._graphs:
            gain, said = self._measured(f"{size} slots as a graph", f"{way.noun}, graph", size, lambda k: self._replay(way, k))
            self._graphs[way.noun, size] = gain
            _LOG.info("replaying graphs of %d slots: %s", size, said)
        return self._graphs[way.noun, size]

    def _measured(self, what: str, noun: str, size: int, measure: Callable[[int], float]) -> tuple[float, str]:
        words = (*self._words, tuple(self._images.shape), size, noun)
        try:
            gain, known = remembered_gain(words, lambda: measure(size))
        except RuntimeError as error:  # not remembered on the disk: another process may have more room
            if not out_of_memory(error):
                raise
            return 0.0, f"{what} do not fit the memory"
        return gain, f"{gain:.2f}x with {size} slots ({'measured before' if known else 'measured now'})"

    def _packing(self, size: int) -> float:
        step = self._array_step(self._way, size)
        if step is None:
            return 0.0
        own = [self._own_step() for _ in range(min(size, 2))]  # two take turns: memory for all is not there beside the array
        return packing_gain(step, lambda: self._inputs(step), alone=[own[slot % len(own)] for slot in range(size)])

    def _replay(self, way: Way, size: int) -> float:
        assert self._capture is not None
        step = self._array_step(way, size)
        if step is None:
            return 0.0
        ordinary = self._own_step() if size == 1 else None
        return graph_gain(step, self._inputs(step), capture=self._capture, ordinary=ordinary)

    def _array_step(self, way: Way, size: int) -> ArrayStep | None:
        """Return the step of an array of such models (None: they do not become one in this way)."""
        solos = [copy.deepcopy(self._model).train() for _ in range(size)]
        rules = [rules_of(solo, build_optimizer(solo, self._config), self._config) for solo in solos]
        try:
            net = way.build(solos)
        except NotPackable:
            return None
        optimizer = SlotOptimizer(net, rules, family=self._config.optimizer)
        for slot in range(size):
            optimizer.take(slot, self._config)
        clips = torch.full((size,), self._config.clip_norm, dtype=torch.float64, device=self._images.device)
        return ArrayStep(net, optimizer, [self._rules.loss] * size, clips=clips, config=self._config)

    def _inputs(self, step: ArrayStep) -> list[torch.Tensor]:
        """Return what the step takes: the random batch for every slot."""
        size = len(step.losses)
        return step.inputs([self._images] * size, [self._targets] * size)

    def _own_step(self) -> Callable[[], object]:
        """Return a model's own training step, which an array of one stands for."""
        model = copy.deepcopy(self._model).train()
        optimizer = build_optimizer(model, self._config)
        return lambda: train_step(model, optimizer, self._images, self._targets, rules=self._rules)


def random_batch(model: ImageModel) -> torch.Tensor:
    """Return random images of a training batch's shape, dtype, device and memory format."""
    like = next(model.model.parameters())
    size, channels = model.pipeline.image_size, len(model.pipeline.mean)
    images = torch.randn(model.config.batch_size, channels, size, size, device=like.device, dtype=like.dtype)
    return images.contiguous(memory_format=memory_format(model.config))
