"""One training step of an array as a function of its batch and its dropouts' keys; nothing in it waits for the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.keyed_dropout import keyed_layers
from trainables.losses import Loss
from trainables.runtime import autocast, memory_format
from trainables.slots.optimiser import SlotOptimizer
from trainables.slots.pack import gather_outputs, spread_images
from trainables.slots.stacked import StackedNet


class ArrayStep:
    """Forward, each slot's loss, one backward pass, each slot's clipping, the optimiser's step."""

    def __init__(
        self, net: nn.Module, optimizer: SlotOptimizer, losses: Sequence[Loss], *, clips: Tensor, config: TrainConfig
    ) -> None:
        """Take a loss a slot and the limits of the gradients' norms [K] (0: off); rates are set in the optimiser.

        Of `config` the precision and the memory format count, which all slots share.
        """
        self.net, self.optimizer, self.clips = net, optimizer, clips
        self.clipping = bool((clips > 0).any())  # looked at once: multiplying by ones costs an operation a parameter
        by_vmap = isinstance(net, StackedNet) and net.slots > 1  # it would copy any other layout back
        self.precision, self.layout = config.precision, torch.contiguous_format if by_vmap else memory_format(config)
        self.losses = [_on(loss, clips.device) for loss in losses]
        self.keyed = list(keyed_layers(net))

    def inputs(self, images: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        """Return what `__call__` takes, from a batch a slot and the keys that the dropouts hold now."""
        return [torch.stack(list(images)), *targets, *(layer.keys for layer in self.keyed)]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Take one step on images [K, N, C, H, W], targets a slot, keys [K] a dropout.

        Returns outputs [K, N, D], losses [K, N] and the gradients' norms before clipping [K].
        """
        slots, (images, *more) = len(self.losses), inputs
        for layer, keys in zip(self.keyed, more[slots:], strict=True):
            layer.keys = keys
        self.optimizer.zero_grad()
        with autocast(self.precision, images.device):
            packed: Tensor = self.net(spread_images(images, self.layout))
        packed = packed.float() if packed.dtype in (torch.float16, torch.bfloat16) else packed
        outputs = gather_outputs(packed, slots)
        losses = self._losses(outputs, more[:slots])
        losses.mean(1).sum().backward()  # type: ignore[no-untyped-call]
        norms = self.optimizer.grad_norms()
        if self.clipping:
            self.optimizer.clip(norms, self.clips)
        self.optimizer.step()
        return outputs.detach(), losses.detach(), norms

    def _losses(self, outputs: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Return [K, N] from [K, N, D]: one pass over the rows of all slots whose losses and kinds of target agree."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for slot, (loss, target) in enumerate(zip(self.losses, targets, strict=True)):
            rules = (loss.kind, loss.label_smoothing, loss.focal_gamma, slot if loss.class_weights is not None else -1)
            alike.setdefault((*rules, target.shape, target.dtype), []).append(slot)
        found: dict[int, Tensor] = {}
        for slots in alike.values():
            own = outputs if len(slots) == len(outputs) else torch.stack([outputs[slot] for slot in slots])
            rows = self.losses[slots[0]](own.flatten(0, 1), torch.cat([targets[slot] for slot in slots]))
            found |= zip(slots, torch.unflatten(rows, 0, (len(slots), -1)), strict=True)
        return torch.stack([found[slot] for slot in range(len(outputs))])

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes: parameters, buffers, the optimiser's state and its counts of steps."""
        given = {id(buffer) for layer in self.keyed for buffer in layer.buffers()}
        own = [tensor for tensor in (*self.net.parameters(), *self.net.buffers()) if id(tensor) not in given]
        return [*own, *(buffer for held in self.optimizer.state.values() for buffer in held.values()), self.optimizer.steps]


def _on(loss: Loss, device: torch.device) -> Loss:
    weights = loss.class_weights
    return loss if weights is None else dataclasses.replace(loss, class_weights=weights.to(device))
