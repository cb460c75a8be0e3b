"""The ways to train K equal trials at once that `device_steps.py` times, each put together from the product's own parts.

A step is the step alone, forward to optimiser: data, augmentation, rates, keys of dropout and scores are the same work in all.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.config import fusion_key
from trainables.image_model import ImageModel
from trainables.loop import train_step
from trainables.optim import build_optimizer
from trainables.slots.gains import random_batch
from trainables.slots.graphs import GraphedStep, capture_cuda
from trainables.slots.optimiser import SlotOptimizer, rules_of
from trainables.slots.pack import pack
from trainables.slots.probe import Build, Verdict, probe
from trainables.slots.stacked import autocast_misses, stack
from trainables.slots.step import ArrayStep

Run = Callable[[], object]
"""Takes one step of all K trials."""
_VERDICTS: dict[tuple[object, ...], Verdict] = {}


class NotPossible(RuntimeError):
    """These trials cannot be trained in this way on this device."""


@dataclass(frozen=True)
class Trials:
    """K trials, copies of one model (whose scaler does nothing in fp32 and bf16), with a batch of their own each."""

    model: ImageModel
    images: list[Tensor]
    targets: list[Tensor]

    @property
    def slots(self) -> int:
        """Return K."""
        return len(self.images)


def trials_of(model: ImageModel, slots: int) -> Trials:
    """Return so many trials on random images and the targets of the model's own data."""
    images = [random_batch(model) for _ in range(slots)]
    rows, aims = torch.arange(model.config.batch_size, device=model.device), model.portion.aims
    return Trials(model, images, [aims[(rows + slot) % len(aims)] for slot in range(slots)])


def _solo_steps(trials: Trials) -> list[Run]:
    model, found = trials.model, list[Run]()
    for images, targets in zip(trials.images, trials.targets, strict=True):
        net = copy.deepcopy(model.model).train()
        optimizer = build_optimizer(net, model.config)
        step = functools.partial(train_step, net, optimizer, images, targets, rules=model.rules, scaler=model.scaler)
        found.append(step)
    return found


def _in_turn(steps: Sequence[Run]) -> Run:
    def run() -> None:
        for step in steps:
            step()

    return run


def eager(trials: Trials) -> Run:
    """Each model's own step, one after another."""
    return _in_turn(_solo_steps(trials))


def streams(trials: Trials) -> Run:
    """Each model's own step on a CUDA stream of its own, launched from one thread."""
    device = trials.model.device
    if device.type != "cuda":
        raise NotPossible("there are no CUDA streams on a CPU")
    steps = _solo_steps(trials)
    lanes = [torch.cuda.Stream(device) for _ in steps]  # type: ignore[no-untyped-call]

    def run() -> None:
        current = torch.cuda.current_stream(device)
        for lane, step in zip(lanes, steps, strict=True):
            lane.wait_stream(current)
            with torch.cuda.stream(lane):
                step()
        for lane in lanes:
            current.wait_stream(lane)

    return run


def array_step(trials: Trials, build: Build) -> ArrayStep:
    """Return the step of the trials as one array."""
    model, config = trials.model, trials.model.config
    solos = [copy.deepcopy(model.model).train() for _ in range(trials.slots)]
    rules = [rules_of(solo, build_optimizer(solo, config), config) for solo in solos]
    net = build(solos)
    optimizer = SlotOptimizer(net, rules, family=config.optimizer)
    for slot in range(trials.slots):
        optimizer.take(slot, config)
    clips = torch.full((trials.slots,), config.clip_norm, dtype=torch.float64, device=model.device)
    return ArrayStep(net, optimizer, [model.rules.loss] * trials.slots, clips=clips, config=config)


def _on_batches(take: Callable[..., object], step: ArrayStep, trials: Trials) -> Run:
    """Take a step on the trials' batches; putting these together is part of it."""
    return lambda: take(*step.inputs(trials.images, trials.targets))


def _replayed(step: ArrayStep, trials: Trials) -> Run:
    graphed = GraphedStep(step, capture=capture_cuda)
    run = _on_batches(graphed, step, trials)
    run()  # records
    if graphed.refused:
        raise NotPossible(f"the graph was refused: {graphed.refused}")
    return run


def graphs(trials: Trials) -> Run:
    """Each model as an array of one whose step is a replayed graph, one after another."""
    _has_graphs(trials)
    runs = []
    for images, targets in zip(trials.images, trials.targets, strict=True):
        one = Trials(trials.model, [images], [targets])
        runs.append(_replayed(array_step(one, stack), one))
    return _in_turn(runs)


def packed(trials: Trials) -> Run:
    """One array of grouped layers."""
    return _array(trials, pack, graph=False)


def packed_graph(trials: Trials) -> Run:
    """One array of grouped layers whose step is a replayed graph."""
    return _array(trials, pack, graph=True)


def vmap(trials: Trials) -> Run:
    """One array by vmap (of one model: the model itself)."""
    return _array(trials, stack, graph=False)


def vmap_graph(trials: Trials) -> Run:
    """One array by vmap whose step is a replayed graph."""
    return _array(trials, stack, graph=True)


def _array(trials: Trials, build: Build, *, graph: bool) -> Run:
    if graph:
        _has_graphs(trials)
    _is_right(trials, build)
    step = array_step(trials, build)
    return _replayed(step, trials) if graph else _on_batches(step, step, trials)


def _has_graphs(trials: Trials) -> None:
    if trials.model.device.type != "cuda":
        raise NotPossible("there are no CUDA graphs on a CPU")


def _is_right(trials: Trials, build: Build) -> None:
    """Refuse what the product refuses: an array that does not compute what its models alone do, or not in the precision."""
    model, config = trials.model, trials.model.config
    if build is stack and trials.slots > 1 and autocast_misses(config.precision, model.device):
        raise NotPossible(f"{config.precision} does not reach a convolution under vmap on this device")
    shape = tuple(trials.images[0].shape[1:])
    key = (*fusion_key(config), shape, build)
    if key not in _VERDICTS:
        _VERDICTS[key] = probe(model.model, image_shape=shape, build=build)  # type: ignore[arg-type]
    if not _VERDICTS[key].packs:
        raise NotPossible(f"the probe refused: {_VERDICTS[key].reason}")


WAYS: dict[str, tuple[str, Callable[[Trials], Run]]] = {
    "a": ("one after another, eager", eager),
    "b": ("one after another, replayed graphs", graphs),
    "c": ("K streams, eager", streams),
    "d": ("packed, eager", packed),
    "e": ("packed, replayed graph", packed_graph),
    "f": ("vmap, eager", vmap),
    "g": ("vmap, replayed graph", vmap_graph),
}
"""Letter -> what it is called, and what makes its step; the first one is the reference."""
