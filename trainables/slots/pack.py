"""Pack K models of one architecture into one, and take single slots in and out again."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.slots.layers import CHANNELWISE, PACKED, NotPackable


def pack(models: Sequence[nn.Module]) -> nn.Module:
    """Return one module over [N, K*C, H, W] whose state is the K models' states stacked name by name.

    The module's `forward` is the first model's own; only leaf layers are replaced. Nets that mix channels outside a layer
    (concatenation, shuffle, split) convert without complaint and compute nonsense: `probe` must pass before a pack is used.

    Raises:
        NotPackable: for a leaf layer with parameters that has no packed form, or a parameter outside a leaf layer.
    """
    packed = copy.deepcopy(models[0])
    parts = [dict(model.named_modules()) for model in models]
    for name, module in list(packed.named_modules()):
        twins = [part[name] for part in parts]
        replacement = _packed_leaf(twins, name)
        if replacement is not None:
            replacement.train(module.training)
            if not name:
                return replacement
            parent, _, attribute = name.rpartition(".")
            setattr(packed.get_submodule(parent), attribute, replacement)
    return packed


def _packed_leaf(twins: Sequence[nn.Module], name: str) -> nn.Module | None:
    first = twins[0]
    if type(first) in PACKED:
        return PACKED[type(first)](twins)
    if next(first.children(), None) is None and not isinstance(first, CHANNELWISE):
        raise NotPackable(f"{name}: {type(first).__name__} has no packed form")
    own = [key for key, _ in first.named_parameters(recurse=False)] + [key for key, _ in first.named_buffers(recurse=False)]
    if own:
        raise NotPackable(f"{name or 'model'}: {type(first).__name__} holds {', '.join(own)} outside a layer")
    return None


@torch.no_grad()
def read_slot(packed: nn.Module, slot: int) -> dict[str, Tensor]:
    """Return one slot's state, under the solo model's names, as copies."""
    return {name: tensor[slot].detach().clone() for name, tensor in packed.state_dict().items()}


def spread_images(images: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Turn one batch a slot, [K, N, C, H, W], into the packed layout [N, K*C, H, W], in a memory format."""
    if memory_format == torch.channels_last:
        slots, count, channels, height, width = images.shape
        return images.permute(1, 3, 4, 0, 2).reshape(count, height, width, slots * channels).permute(0, 3, 1, 2)
    return images.transpose(0, 1).flatten(1, 2)


def gather_outputs(outputs: Tensor, slots: int) -> Tensor:
    """Turn packed outputs [N, K*D] into one block a slot, [K, N, D]."""
    return torch.unflatten(outputs, 1, (slots, -1)).transpose(0, 1)
