"""A network as an ordered list of stages from input to head: the one ruler for freezing, layer-wise rates and feature cuts.

Own nets name their parts. Any other net is read from its modules: containers are opened into units in order of definition, and
a unit that lowers the resolution (a strided convolution or a pooling) opens a new stage; where that gives fewer than three
stages (transformers), each unit with parameters is a stage of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

HEAD = "head"


@dataclass(frozen=True)
class Stage:
    """A named run of modules, with the loose parameters (class token, positions) that belong to it."""

    name: str
    modules: tuple[nn.Module, ...]
    loose: tuple[nn.Parameter, ...] = ()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter of the stage."""
        for module in self.modules:
            yield from module.parameters()
        yield from self.loose


def stages(model: nn.Module) -> list[Stage]:
    """Return the stages from input to head; the last one is called "head", and together they hold each parameter once."""
    parts: Any = getattr(model, "parts", None)
    if callable(parts):
        return [Stage(name, (module,)) for name, module in parts()]
    children = list(model.named_children())
    first = _head_start(model)
    units = [unit for _, child in children[:first] for unit in _units(child)]
    groups = _by_resolution(units)
    if len(groups) < 3:
        groups = _by_unit(units)
    head = Stage(HEAD, tuple(child for _, child in children[first:]))
    names = ["stem", *(f"stage{i}" for i in range(1, len(groups)))]
    found = [Stage(name, tuple(group)) for name, group in zip(names, groups, strict=True)]
    return _with_loose(model, [*found, head])


def last_layer(model: nn.Module) -> str:
    """Return the path of the layer that gives the logits: the last Linear or Conv2d defined."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not names:
        raise ValueError(f"model: {type(model).__name__} has no Linear or Conv2d layer to serve as a head")
    return names[-1]


def first_layer(model: nn.Module) -> str:
    """Return the path of the first convolution."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return names[0]


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place that the dotted `path` names."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _head_start(model: nn.Module) -> int:
    """Return the index of the first top-level child of the head: the one with the logits, and dropouts just before it."""
    children = list(model.named_children())
    top = last_layer(model).split(".")[0]
    index = next(i for i, (name, _) in enumerate(children) if name == top)
    while index > 0 and "Dropout" in type(children[index - 1][1]).__name__:
        index -= 1
    return index


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Open plain containers, and wrappers around one (an encoder with a `layers` container); all else is one unit."""
    if type(module) in (nn.Sequential, nn.ModuleList) or isinstance(getattr(module, "layers", None), nn.Sequential):
        for child in module.children():
            yield from _units(child)
    else:
        yield module


def _lowers_resolution(unit: nn.Module) -> bool:
    for module in unit.modules():
        stride = getattr(module, "stride", 1)
        if isinstance(stride, int | tuple) and max(stride if isinstance(stride, tuple) else (stride,)) > 1:
            return True
    return False


def _has_parameters(unit: nn.Module) -> bool:
    return next(unit.parameters(), None) is not None


def _grouped(units: list[nn.Module], starts: list[bool]) -> list[list[nn.Module]]:
    """Cut the units where `starts` says so, and hand groups without parameters on to the next one (or the last one)."""
    groups: list[list[nn.Module]] = [[]]
    for unit, start in zip(units, starts, strict=True):
        if start and any(_has_parameters(u) for u in groups[-1]):
            groups.append([])
        groups[-1].append(unit)
    if len(groups) > 1 and not any(_has_parameters(u) for u in groups[-1]):
        rest = groups.pop()
        groups[-1].extend(rest)
    return groups


def _by_resolution(units: list[nn.Module]) -> list[list[nn.Module]]:
    return _grouped(units, [_lowers_resolution(unit) for unit in units])


def _by_unit(units: list[nn.Module]) -> list[list[nn.Module]]:
    """One stage a unit; a final norm belongs to the stage before it."""
    norms = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
    return _grouped(units, [_has_parameters(unit) and not isinstance(unit, norms) for unit in units])


def _with_loose(model: nn.Module, found: list[Stage]) -> list[Stage]:
    held = {id(parameter) for stage in found for parameter in stage.parameters()}
    loose = tuple(parameter for parameter in model.parameters() if id(parameter) not in held)
    return [Stage(found[0].name, found[0].modules, loose), *found[1:]]
