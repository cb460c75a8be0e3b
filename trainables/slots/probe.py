"""The probe that must pass before models train as one: two as one in float64 against the two alone, forward and backward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.keyed_dropout import keyed_layers, set_keys
from trainables.slots.layers import NotPackable
from trainables.slots.pack import gather_outputs, pack, read_slot, spread_images

TOLERANCE = 1e-9
"""Largest difference in float64 between as one and alone, relative to a tensor's largest entry where that is above 1."""
Build = Callable[[Sequence[nn.Module]], nn.Module]
"""How K models become one over [N, K*C, H, W] (`pack` or `stack`)."""


@dataclass(frozen=True)
class Verdict:
    """Whether an architecture may train as one in some way, and why not."""

    packs: bool
    reason: str


def probe(model: nn.Module, *, image_shape: tuple[int, int, int], build: Build = pack, seed: int = 0) -> Verdict:
    """Make `model` and a perturbed twin one, run both ways on random images, and compare outputs, gradients, buffers."""
    generator = torch.Generator().manual_seed(seed)
    first = copy.deepcopy(model).cpu().double().train()
    second = copy.deepcopy(first)
    with torch.no_grad():
        for tensor in second.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    solos = [first, second]
    images = torch.randn(2, 3, *image_shape, generator=generator, dtype=torch.float64)
    try:
        packed = build(solos)
        expected = [_run(solo, image, slot) for slot, (solo, image) in enumerate(zip(solos, images, strict=True))]
        set_keys(packed, torch.tensor([0, 1]), 0)
        outputs = gather_outputs(packed(spread_images(images)), 2)
        outputs.square().sum().backward()  # type: ignore[no-untyped-call]
    except NotPackable as error:
        return Verdict(False, str(error))
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        return Verdict(False, _said(error))
    worst = 0.0
    gradients = {name: p.grad for name, p in packed.named_parameters()}
    for slot, (solo, output) in enumerate(zip(solos, expected, strict=True)):
        worst = max(worst, _difference(outputs[slot], output))
        for name, parameter in solo.named_parameters():
            if parameter.grad is not None:
                packed_gradient = gradients[name]
                worst = max(
                    worst, float("inf") if packed_gradient is None else _difference(packed_gradient[slot], parameter.grad)
                )
        state = read_slot(packed, slot)
        worst = max([worst, *(_difference(state[name], tensor) for name, tensor in solo.state_dict().items())])
    if not worst <= TOLERANCE:
        return Verdict(False, f"as one and alone differ by {worst:.1e}: it mixes channels outside a layer")
    return Verdict(True, f"as one equals alone to {worst:.1e}")


def _said(error: Exception) -> str:
    said = str(error).splitlines()[0]
    if "random operation" in said:
        return "it draws from torch's one generator, so a slot would not draw what the trial draws alone"
    return f"the models as one do not run ({said})"


def _run(solo: nn.Module, images: Tensor, slot: int) -> Tensor:
    if any(True for _ in keyed_layers(solo)):
        set_keys(solo, slot, 0)
    output: Tensor = solo(images)
    output.square().sum().backward()  # type: ignore[no-untyped-call]
    return output


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    gap, size = (a.detach().double() - b.detach().double()).abs().max(), b.detach().double().abs().max()
    found = float(gap / size.clamp(min=1.0))
    return found if math.isfinite(found) else float("inf")
