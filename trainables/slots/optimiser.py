"""SGD, Adam and AdamW over packed parameters [K, ...], with every hyperparameter and the step count of each slot its own.

torch's optimisers take one number a group; here each is a [K] vector. The update is torch's own formula, parameter by parameter
(on a CPU faster than flat buffers or foreach, measured), so that a slot equals a solo run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class SlotOptimizer:
    """One optimiser family over K slots; `lr` is set before each step, the rest when a slot is taken."""

    def __init__(self, packed: nn.Module, rules: Sequence[Mapping[str, Rule]], *, family: str) -> None:
        """Take one table of rules a slot (they differ in rate scales and places alone)."""
        slots = len(rules)
        self.family, self.rules, self.tables = family, dict(rules[0]), rules
        self.parameters = {name: parameter for name, parameter in packed.named_parameters() if name in self.rules}
        first = next(iter(self.parameters.values()))
        self.scales = {
            name: torch.tensor([table[name].lr_scale for table in rules], dtype=torch.float64, device=first.device)
            for name in self.parameters
        }
        self.state = {name: {key: torch.zeros_like(p) for key in BUFFERS[family]} for name, p in self.parameters.items()}
        self.steps = torch.zeros(slots, dtype=torch.float64, device=first.device)
        self.hyper = {
            key: torch.zeros(slots, dtype=torch.float64, device=first.device)
            for key in ("lr", "weight_decay", "momentum", "beta2", "nesterov")
        }

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
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.mul_(_spread(factor, parameter))

    @torch.no_grad()
    def step(self) -> None:
        """Move every slot's parameters once."""
        self.steps += 1
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            rule, hyper = self.rules[name], self.hyper
            lr = hyper["lr"] * self.scales[name]
            decay = hyper["weight_decay"] if rule.decays else torch.zeros_like(lr)
            move = self._sgd if self.family == "sgd" else self._adam
            move(parameter, parameter.grad, self.state[name], lr, decay)

    def _sgd(self, parameter: nn.Parameter, grad: Tensor, state: dict[str, Tensor], lr: Tensor, decay: Tensor) -> None:
        momentum, nesterov = _spread(self.hyper["momentum"], parameter), _spread(self.hyper["nesterov"], parameter)
        grad = torch.addcmul(grad, parameter, _spread(decay, parameter))
        buffer = state["momentum_buffer"].mul_(momentum).add_(grad)
        move = torch.lerp(buffer, torch.addcmul(grad, buffer, momentum), nesterov)
        parameter.addcmul_(move, -_spread(lr, parameter))

    def _adam(self, parameter: nn.Parameter, grad: Tensor, state: dict[str, Tensor], lr: Tensor, decay: Tensor) -> None:
        beta1, beta2 = self.hyper["momentum"], self.hyper["beta2"]
        if self.family == "adam":
            grad = torch.addcmul(grad, parameter, _spread(decay, parameter))
        else:
            parameter.mul_(_spread(1 - lr * decay, parameter))
        mean = state["exp_avg"].lerp_(grad, _spread(1 - beta1, parameter))
        square = state["exp_avg_sq"].mul_(_spread(beta2, parameter)).addcmul_(grad, grad * _spread(1 - beta2, parameter))
        size = _spread(lr / (1 - beta1**self.steps), parameter)
        scale = _spread((1 - beta2**self.steps).sqrt(), parameter)
        parameter.sub_(size * mean / (square.sqrt() / scale + EPS))

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
    """View [K] as [K, 1, ...] in the parameter's own precision."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
