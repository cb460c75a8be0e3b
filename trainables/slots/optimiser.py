"""SGD, Adam and AdamW over packed parameters [K, ...], with every hyperparameter and the step count of each slot its own.

torch's optimisers take one number a group; here each is a [K] vector. The update is torch's own formula, parameter by parameter
(on a CPU faster than flat buffers or foreach, measured), so that a slot equals a solo run. What follows from the numbers alone
is computed once a step for all parameters that share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.config import TrainConfig

EPS = 1e-8
"""Adam's epsilon, torch's default."""
BUFFERS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}
"""State of a parameter under torch's own names."""


@dataclass(frozen=True)
class Rule:
    """How one parameter is treated in every slot: its place in the solo optimiser, its rate scale, whether it decays."""

    index: int
    lr_scale: float
    decays: bool


def rules_of(model: nn.Module, optimizer: Optimizer, config: TrainConfig) -> dict[str, Rule]:
    """Return parameter name -> rule, read off a solo model and the optimiser built for it."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Rule] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            decays = parameter.ndim > 1 if config.weight_decay == 0 else group["weight_decay"] > 0
            found[names[id(parameter)]] = Rule(len(found), float(group["lr_scale"]), decays)
    return found


@dataclass(frozen=True)
class Alike:
    """Parameters that share their numbers: each slot's rate scale [K], and whether they decay."""

    names: list[str]
    scales: Tensor
    decays: bool
    dtype: torch.dtype


class SlotOptimizer:
    """One optimiser family over K slots; `lr` is set before each step, the rest when a slot is taken."""

    def __init__(self, packed: nn.Module, rules: Sequence[Mapping[str, Rule]], *, family: str) -> None:
        """Take one table of rules a slot (they differ in rate scales and places alone)."""
        slots = len(rules)
        self.family, self.rules, self.tables = family, dict(rules[0]), rules
        self.parameters = {name: parameter for name, parameter in packed.named_parameters() if name in self.rules}
        first = next(iter(self.parameters.values()))
        self.alike = self._alike(first.device)
        self.state = {name: {key: torch.zeros_like(p) for key in BUFFERS[family]} for name, p in self.parameters.items()}
        self.steps = torch.zeros(slots, dtype=torch.float64, device=first.device)
        self.hyper = {
            key: torch.zeros(slots, dtype=torch.float64, device=first.device)
            for key in ("lr", "weight_decay", "momentum", "beta2", "nesterov")
        }

    def _alike(self, device: torch.device) -> list[Alike]:
        """Group the parameters, so that what a step derives from the slots' numbers is derived once for each group."""
        groups: dict[tuple[tuple[float, ...], bool, torch.dtype], list[str]] = {}
        for name, parameter in self.parameters.items():
            scales = tuple(table[name].lr_scale for table in self.tables)
            groups.setdefault((scales, self.rules[name].decays, parameter.dtype), []).append(name)
        return [
            Alike(names, torch.tensor(scales, dtype=torch.float64, device=device), decays, dtype)
            for (scales, decays, dtype), names in groups.items()
        ]

    def take(self, slot: int, config: TrainConfig) -> None:
        """Give a slot to a new trial: its numbers, empty state, step zero."""
        numbers = {
            "lr": config.lr,
            "weight_decay": config.weight_decay,
            "momentum": config.momentum,
            "beta2": config.beta2,
            "nesterov": float(config.nesterov and config.momentum > 0),
        }
        for key, value in numbers.items():
            self.hyper[key][slot] = value
        self.steps[slot] = 0
        for buffers in self.state.values():
            for buffer in buffers.values():
                buffer[slot].zero_()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def grad_norms(self) -> Tensor:
        """Return each slot's gradient norm [K]."""
        squares = [p.grad.reshape(len(p), -1).square().sum(1) for p in self.parameters.values() if p.grad is not None]
        return torch.stack(squares).sum(0).sqrt()

    def clip(self, norms: Tensor, limits: Tensor) -> None:
        """Scale each slot's gradient to its own limit [K] (0: leave it), as torch's clip does for one model."""
        factor = torch.where(limits > 0, (limits / (norms + 1e-6)).clamp(max=1.0), torch.ones_like(norms))
        for alike in self.alike:
            own = factor.to(alike.dtype)
            for _, parameter, grad in self._moving(alike):
                grad.mul_(_spread(own, parameter))

    @torch.no_grad()
    def step(self) -> None:
        """Move every slot's parameters once."""
        self.steps += 1
        for alike in self.alike:
            move = self._sgd if self.family == "sgd" else self._adam
            move(alike)

    def _moving(self, alike: Alike) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Yield the name, the parameter and the gradient of those that have one."""
        for name in alike.names:
            parameter = self.parameters[name]
            if parameter.grad is not None:
                yield name, parameter, parameter.grad

    def _sgd(self, alike: Alike) -> None:
        hyper = self.hyper
        numbers = (hyper["momentum"], hyper["nesterov"], hyper["weight_decay"], -hyper["lr"] * alike.scales)
        momentum, nesterov, decay, minus_lr = (values.to(alike.dtype) for values in numbers)
        for name, parameter, grad in self._moving(alike):
            if alike.decays:
                grad = torch.addcmul(grad, parameter, _spread(decay, parameter))
            keep = _spread(momentum, parameter)
            buffer = self.state[name]["momentum_buffer"].mul_(keep).add_(grad)
            move = torch.lerp(buffer, torch.addcmul(grad, buffer, keep), _spread(nesterov, parameter))
            parameter.addcmul_(move, _spread(minus_lr, parameter))

    def _adam(self, alike: Alike) -> None:
        beta1, beta2, decay = self.hyper["momentum"], self.hyper["beta2"], self.hyper["weight_decay"]
        lr, coupled = self.hyper["lr"] * alike.scales, self.family == "adam"
        numbers = (1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**self.steps), (1 - beta2**self.steps).sqrt())
        fresh1, keep2, fresh2, size, scale = (values.to(alike.dtype) for values in numbers)
        shrink = (decay if coupled else 1 - lr * decay).to(alike.dtype)
        for name, parameter, grad in self._moving(alike):
            if alike.decays and coupled:
                grad = torch.addcmul(grad, parameter, _spread(shrink, parameter))
            elif alike.decays:
                parameter.mul_(_spread(shrink, parameter))
            state = self.state[name]
            mean = state["exp_avg"].lerp_(grad, _spread(fresh1, parameter))
            square = state["exp_avg_sq"].mul_(_spread(keep2, parameter)).addcmul_(grad, grad * _spread(fresh2, parameter))
            parameter.sub_(_spread(size, parameter) * mean / (square.sqrt() / _spread(scale, parameter) + EPS))

    @torch.no_grad()
    def write(self, slot: int, state: Mapping[int, Mapping[str, Any]], *, steps: int) -> None:
        """Restore a slot from the state of a solo optimiser after so many steps."""
        self.steps[slot] = steps
        for name, buffers in self.state.items():
            stored = state.get(self.tables[slot][name].index, {})
            for key, buffer in buffers.items():
                value = stored.get(key)
                buffer[slot].zero_() if value is None else buffer[slot].copy_(value)

    def views(self, name: str, slot: int) -> dict[str, Tensor]:
        """Return a parameter's state of one slot as views under torch's names, for the solo optimiser to hold."""
        if name not in self.state:
            return {}
        found = {key: buffer[slot] for key, buffer in self.state[name].items()}
        return found if self.family == "sgd" else {"step": self.steps[slot].to("cpu", torch.float32), **found}


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """View [K] as [K, 1, ...] with a parameter's dimensions."""
    return values.view(-1, *[1] * (like.dim() - 1))
