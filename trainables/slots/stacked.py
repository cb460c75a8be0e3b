"""K models as one by `torch.vmap`, for nets that mix channels outside a layer: slower than packing, whatever `forward` does.

The module has the face of a packed one (`pack`): the same names, each tensor stacked [K, ...], images [N, K*C, H, W]. An array
of one calls the model itself, without vmap. Larger ones compute in torch's own memory format whatever the models': vmap has no
rules for strides, and would go through slots one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from trainables.keyed_dropout import PER_SLOT, KeyedDropout
from trainables.runtime import autocast
from trainables.slots.layers import NotPackable, slot_dropout


class StackedNet(nn.Module):
    """A model whose tensors carry a leading K; children, parameters and buffers are the shell's, under their own names."""

    def __init__(self, shell: nn.Module, slots: int) -> None:
        super().__init__()
        self.slots, self.training = slots, shell.training
        self._shell = (shell,)  # in a tuple, so that nothing is registered a second time under a prefix
        self._keyed = {f"{n}.{key}" for n, m in shell.named_modules() if isinstance(m, KeyedDropout) for key in PER_SLOT}
        self._modules, self._parameters, self._buffers = shell._modules, shell._parameters, shell._buffers
        self._non_persistent_buffers_set = shell._non_persistent_buffers_set

    def forward(self, x: Tensor) -> Tensor:
        """[N, K*C, H, W] -> [N, K*D]."""
        [shell] = self._shell
        shell.training = self.training
        tensors = [*shell.named_parameters(), *shell.named_buffers()]
        state = {name: tensor.unsqueeze(1) if name in self._keyed else tensor for name, tensor in tensors}
        if self.slots == 1:
            alone: Tensor = functional_call(shell, {name: tensor.squeeze(0) for name, tensor in state.items()}, (x,))
            return alone

        def slot(own: dict[str, Tensor], images: Tensor) -> Tensor:
            out: Tensor = functional_call(shell, own, (images,))
            return out

        together: Tensor = torch.vmap(slot, in_dims=(0, 1))(state, torch.unflatten(x.contiguous(), 1, (self.slots, -1)))
        return together.transpose(0, 1).flatten(1)


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """Return one module over [N, K*C, H, W] that holds the K models' tensors stacked name by name.

    Raises:
        NotPackable: for a layer that draws from torch's one generator, and for models whose tensors differ in name or shape.
    """
    for model in models:
        for name, module in model.named_modules():
            if _draws(module):
                said = f"{name}: {type(module).__name__} draws from torch's one generator"
                raise NotPackable(f"{said}, so a slot would not draw what the trial draws alone")
    shell = copy.deepcopy(models[0])
    _stack_tensors(shell, models)
    _stack_dropouts(shell, models)
    return StackedNet(shell, len(models))


@torch.no_grad()
def _stack_tensors(shell: nn.Module, models: Sequence[nn.Module]) -> None:
    tensors = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in models]
    shapes = [{name: tensor.shape for name, tensor in own.items()} for own in tensors]
    if any(other != shapes[0] for other in shapes):
        raise NotPackable("the models' tensors differ in name or shape")
    made: dict[int, nn.Parameter] = {}  # so that tied parameters stay tied
    names = {id(parameter): name for name, parameter in shell.named_parameters()}
    for prefix, module in shell.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                values = torch.stack([own[names[id(parameter)]] for own in tensors])
                values = values.clone(memory_format=torch.contiguous_format) if len(models) > 1 else values
                stacked = made.setdefault(id(parameter), nn.Parameter(values, requires_grad=parameter.requires_grad))
                module._parameters[key] = stacked
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = torch.stack([own[f"{prefix}.{key}" if prefix else key] for own in tensors])


def _stack_dropouts(shell: nn.Module, models: Sequence[nn.Module]) -> None:
    twins = [dict(model.named_modules()) for model in models]
    for name, module in list(shell.named_modules()):
        if isinstance(module, KeyedDropout):
            dropout = slot_dropout([own[name] for own in twins])
            parent, _, attribute = name.rpartition(".")
            setattr(shell.get_submodule(parent), attribute, dropout.train(module.training))


def _draws(module: nn.Module) -> bool:
    """Tell whether a layer draws from torch's generator in the mode it is in (keyed dropout never does)."""
    if isinstance(module, KeyedDropout) or not module.training:
        return False
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    named = type(module).__name__
    chance = getattr(module, "p", getattr(module, "drop_prob", 0.0))
    drops = ("Drop" in named or named == "StochasticDepth") and not (isinstance(chance, int | float) and chance == 0)
    return isinstance(module, nn.RReLU) or (drops and next(module.children(), None) is None)


def autocast_misses(precision: str, device: torch.device) -> bool:
    """Tell whether a convolution under vmap stays float32 on this device although `precision` asks for less (a CPU's does)."""
    if precision in ("fp32", "fp64"):
        return False
    images, weights = torch.zeros(2, 1, 1, 4, 4, device=device), torch.zeros(2, 1, 1, 3, 3, device=device)
    with autocast(precision, device):
        return bool(torch.vmap(F.conv2d)(images, weights).dtype == torch.float32)
