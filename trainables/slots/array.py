"""K image models training as one array: their tensors are views of the packed ones, so each stays an ordinary model.

A step is shared, from the images to the optimiser, and so are the making of batches and live networks' answers for validation.
Rates, averaging, other evaluation and state are each model's own code, on its own slice; one that has left keeps its slice of
an array that no longer moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.augment import to_float
from trainables.batches import Request, make_batches
from trainables.contract import NonFiniteLoss, Outcome
from trainables.image_model import ImageModel
from trainables.inference import prepare
from trainables.keyed_dropout import StepKeys
from trainables.loop import Batch, evaluating, forward
from trainables.runtime import parameter_dtype
from trainables.scoring import PassScores
from trainables.slots.graphs import Capture, GraphedStep, Outputs
from trainables.slots.optimiser import SlotOptimizer, rules_of
from trainables.slots.pack import gather_outputs, pack, spread_images
from trainables.slots.probe import Build
from trainables.slots.step import ArrayStep

Ending = Outcome | NonFiniteLoss
"""What an epoch gives a slot."""
SHARED = 0.75
"""Share of the slots whose live network must answer for one validation pass of all to be made (measured on a CPU: a pass for
eight took 0.85 of their own)."""


class SlotArray:
    """Models of one pool key, in slot order, packed until `release`."""

    def __init__(self, models: Sequence[ImageModel], *, build: Build = pack, capture: Capture | None = None) -> None:
        """Take the models, how they become one, and how its step is recorded to be replayed (None: it is not)."""
        self.models = list(models)
        first = self.models[0]
        self.packed = build([model.model for model in self.models])
        rules = [rules_of(m.model, m.optimizer, m.config) for m in self.models]
        self.optimizer = SlotOptimizer(self.packed, rules, family=first.config.optimizer)
        for slot, model in enumerate(self.models):
            self.optimizer.take(slot, model.config)
            self.optimizer.write(slot, model.optimizer.state_dict()["state"], steps=model.epoch * model.steps)
        self.seeds = torch.tensor([model.config.seed for model in self.models], device=first.device)
        self.clips = torch.tensor([model.config.clip_norm for model in self.models], dtype=torch.float64, device=first.device)
        for slot, model in enumerate(self.models):  # last, so that models are as they were where memory does not suffice
            self._share(slot, model)
        losses = [model.rules.loss for model in self.models]
        self.step = ArrayStep(self.packed, self.optimizer, losses, clips=self.clips, config=first.config)
        self._take: Callable[..., Outputs] = GraphedStep(self.step, capture=capture) if capture else self.step

    @torch.no_grad()
    def _share(self, slot: int, model: ImageModel) -> None:
        """Let a model's parameters, buffers and optimiser state be slices of the packed ones."""
        packed = self.packed.state_dict(keep_vars=True)
        for name, parameter in model.model.named_parameters():
            parameter.data = packed[name].data[slot]
            if name in self.optimizer.state:  # a stage that stays frozen has no state, not even an empty one
                model.optimizer.state[parameter] = self.optimizer.views(name, slot)
        for name, owner, key in _buffers(model.model):
            if name in packed:
                owner._buffers[key] = packed[name][slot]

    @torch.no_grad()
    def release(self, models: Sequence[ImageModel]) -> None:
        """Give these models copies of their own; nobody may be computing with them meanwhile."""
        for model in models:
            slot = self.models.index(model)
            steps = self.optimizer.steps[slot]
            for parameter in model.model.parameters():
                parameter.data = parameter.data.clone()
                state = model.optimizer.state.pop(parameter, {})
                if float(steps) and state:
                    model.optimizer.state[parameter] = {key: value.clone() for key, value in state.items()}
            for _, owner, key in _buffers(model.model):
                buffer = owner._buffers[key]
                owner._buffers[key] = None if buffer is None else buffer.clone()

    def epoch(self) -> list[Ending]:
        """Train every slot one epoch of its own, evaluate each, and return what each got."""
        started = time.perf_counter()
        scores = [PassScores(model.config.task) for model in self.models]
        norms: list[Tensor] = []
        for model in self.models:
            model.begin_epoch()
        self._mirror_modes()
        first = torch.tensor([model.epoch * model.steps for model in self.models], device=self.seeds.device)
        keys = StepKeys(self.packed, self.seeds, first=first, count=self.models[0].steps)
        rates = self._rates()
        for number, batches in enumerate(make_batches([Request(model.source, model.epoch) for model in self.models])):
            keys.set(number)
            self.optimizer.hyper["lr"].copy_(rates[number])
            norms.append(self._step(batches, scores))
        self._note_steps()
        seconds = time.perf_counter() - started
        means = torch.stack(norms).mean(0).tolist()
        answers, answered_in = self._answers(), time.perf_counter() - started - seconds
        return [
            _finish(model, scores[slot], means[slot], seconds, answers=answers.get(slot), answered_in=answered_in)
            for slot, model in enumerate(self.models)
        ]

    def _answers(self) -> dict[int, NDArray[np.float32]]:
        """Return what the slots answer for the validation split, those whose live network does: one forward pass for all.

        They see the same images; a batch holds no more of them than in training, or of all slots than a solo model's. Each
        evaluates itself where too few would use what is computed for all.
        """
        first, slots = self.models[0], [slot for slot, model in enumerate(self.models) if model.answers_live]
        few = len(self.models) == 1 or len(slots) < SHARED * len(self.models)
        if few or any(model.pipeline != first.pipeline for model in self.models):
            return {}
        size = max(first.config.batch_size, first.config.eval_batch_size // len(self.models))
        feed, found = first.feed("val"), list[Tensor]()
        with evaluating(self.packed):
            for rows in torch.split(torch.arange(len(first.splits.val)), size):
                images = prepare(to_float(feed.gather(rows), dtype=parameter_dtype(first.config.precision)), first.pipeline)
                spread = spread_images(images.expand(len(self.models), *images.shape), self.step.layout)
                found.append(gather_outputs(forward(self.packed, spread, first.config.precision), len(self.models)))
            outputs = torch.cat(found, dim=1)
            answers = torch.stack([self.models[slot].inference().answers(outputs[slot]).float() for slot in slots])
            return {slot: found.copy() for slot, found in zip(slots, answers.cpu().numpy(), strict=True)}

    def _rates(self) -> Tensor:
        """Return the learning rates of the epoch to come [steps, K], brought to the device at once."""
        rates = [[model.config.lr * model.factor(number) for model in self.models] for number in range(self.models[0].steps)]
        return torch.tensor(rates, dtype=torch.float64, device=self.seeds.device)

    def _step(self, batches: list[Batch], scores: list[PassScores]) -> Tensor:
        """Take one step of every slot on its own batch; returns the gradient norms [K]."""
        inputs = self.step.inputs([batch.images for batch in batches], [batch.targets for batch in batches])
        outputs, losses, norms = self._take(*inputs)
        for slot, batch in enumerate(batches):
            scores[slot].add(outputs[slot], batch.labels, losses[slot])
        for model in self.models:
            model.after_step()
        return norms

    def _mirror_modes(self) -> None:
        """Let the packed layers be in the mode, and the packed parameters as frozen, as the first model's are."""
        model = self.models[0].model
        own = dict(self.packed.named_modules())
        for name, module in model.named_modules():
            own[name].training = module.training
        parameters = dict(self.packed.named_parameters())
        for name, parameter in model.named_parameters():
            parameters[name].requires_grad_(parameter.requires_grad)

    def _note_steps(self) -> None:
        """Tell the solo optimisers how many steps Adam has counted."""
        for slot, model in enumerate(self.models):
            for state in model.optimizer.state.values():
                if "step" in state:
                    state["step"] = self.optimizer.steps[slot].to("cpu", torch.float32)


def _finish(model: ImageModel, scores: PassScores, norm: float, seconds: float, **answered: Any) -> Ending:
    found = scores.summary()
    if not math.isfinite(found["loss"]):
        return NonFiniteLoss(f"the loss became {found['loss']} in epoch {model.epoch + 1}")
    try:
        return model.finish_epoch(found | {"grad_norm": norm}, seconds, **answered)
    except NonFiniteLoss as error:
        return error


def _buffers(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Return (full name, owner, own name) of every buffer."""
    found = []
    for prefix, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                found.append((f"{prefix}.{key}" if prefix else key, module, key))
    return found
