"""Models as one by vmap equal the same models alone in float64, where channels are concatenated and packing is wrong."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.keyed_dropout import keyed_layers, set_keys, use_keyed_dropout
from trainables.models import build_model
from trainables.slots.layers import NotPackable
from trainables.slots.optimiser import Rule, SlotOptimizer
from trainables.slots.pack import gather_outputs, pack, read_slot, spread_images
from trainables.slots.probe import probe
from trainables.slots.stacked import StackedNet, autocast_misses, stack

STEPS, ROWS, SHAPE = 25, 6, (3, 8, 8)


class Concat(nn.Module):
    """A small net whose second half sees its input beside its first half's output, with a scalar parameter of its own."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(p / 2))
        self.second = nn.Sequential(nn.Conv2d(7, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.Linear(45, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.scale * self.second(torch.cat([x, self.first(x)], dim=1)))
        return out


def concat(config: TrainConfig) -> nn.Module:
    torch.manual_seed(config.seed)
    return use_keyed_dropout(Concat(config.dropout)).double()


def members(family: str, slots: int = 3) -> list[TrainConfig]:
    return [
        TrainConfig(
            optimizer=family, seed=7 + s, lr=0.01 * (s + 1), weight_decay=0.02 * s, dropout=0.25 * s, momentum=0.6 + 0.1 * s,
            nesterov=s % 2 == 0, beta2=0.9 + 0.02 * s,
        )
        for s in range(slots)
    ]  # fmt: skip


def batch(step: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + seed)
    return torch.randn(ROWS, *SHAPE, generator=generator, dtype=torch.float64), torch.randint(4, (ROWS,), generator=generator)


def rate(config: TrainConfig, step: int) -> float:
    """Each trial falls on its own schedule."""
    return config.lr * (1 - step / (STEPS + config.seed))


def train_alone(config: TrainConfig, steps: int) -> dict[str, Tensor]:
    """Train by torch's own optimisers, without any code of the slots."""
    model = concat(config).train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    else:
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, config.beta2))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(config, step)
        images, labels = batch(step, config.seed)
        set_keys(model, config.seed, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict())


class Stack:
    """A bare array: K slots by vmap, each with its own numbers and its own count of steps."""

    def __init__(self, configs: Sequence[TrainConfig]) -> None:
        self.configs, self.steps = list(configs), [0] * len(configs)
        self.net = stack([concat(config) for config in configs]).train()
        names = dict(concat(configs[0]).named_parameters())
        rules = {name: Rule(i, 1.0, parameter.ndim > 1) for i, (name, parameter) in enumerate(names.items())}
        self.optimizer = SlotOptimizer(self.net, [rules] * len(configs), family=configs[0].optimizer)
        for slot, config in enumerate(configs):
            self.optimizer.take(slot, config)

    def join(self, slot: int, config: TrainConfig) -> None:
        """Give a slot to another trial, from its start."""
        solo = concat(config)
        with torch.no_grad():
            for name, tensor in self.net.state_dict(keep_vars=True).items():
                tensor.data[slot].copy_(solo.state_dict()[name])
        for ours, own in zip(keyed_layers(self.net), keyed_layers(solo), strict=True):
            ours.set_p(slot, float(own.p[0]))
        self.optimizer.take(slot, config)
        self.configs[slot], self.steps[slot] = config, 0

    def step(self) -> None:
        """Take one step of every slot."""
        batches = [batch(step, config.seed) for step, config in zip(self.steps, self.configs, strict=True)]
        set_keys(self.net, torch.tensor([config.seed for config in self.configs]), torch.tensor(self.steps))
        for slot, config in enumerate(self.configs):
            self.optimizer.hyper["lr"][slot] = rate(config, self.steps[slot])
        self.optimizer.zero_grad()
        outputs = gather_outputs(self.net(spread_images(torch.stack([images for images, _ in batches]))), len(batches))
        losses = [nn.functional.cross_entropy(out, labels) for out, (_, labels) in zip(outputs, batches, strict=True)]
        torch.stack(losses).sum().backward()
        self.optimizer.grad_norms()
        self.optimizer.step()
        self.steps = [step + 1 for step in self.steps]


def largest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize("family", ["sgd", "adamw"])
def test_25_steps_of_a_slot_equal_25_steps_alone(family: str) -> None:
    together = Stack(members(family))
    for _ in range(STEPS):
        together.step()
    for slot, config in enumerate(members(family)):
        found = read_slot(together.net, slot)
        assert largest(found, train_alone(config, STEPS)) < 1e-10
        assert int(found["first.1.num_batches_tracked"]) == STEPS


def test_order_and_late_join_do_not_change_a_bit_and_the_number_of_slots_only_the_last_ones() -> None:
    configs = members("sgd", 4)
    straight, turned, fewer = Stack(configs), Stack(configs[::-1]), Stack(configs[1:3])
    late = Stack(configs[1::-1])
    late.step()
    late.join(0, configs[1])  # both slots go to other trials, or anew, after a step
    late.join(1, configs[2])
    for array in (straight, turned, fewer, late):
        for _ in range(5):
            array.step()
    assert largest(read_slot(turned.net, 1), read_slot(straight.net, 2)) == 0.0
    assert largest(read_slot(late.net, 1), read_slot(fewer.net, 1)) == 0.0
    assert largest(read_slot(fewer.net, 1), read_slot(straight.net, 2)) < 1e-15  # torch sums a bias's gradient in another order


def test_an_array_of_one_computes_what_the_model_alone_does() -> None:
    config = members("sgd")[2]
    solo = concat(config).train()
    one = stack([solo]).train()
    images, _ = batch(0, 0)
    set_keys(solo, 3, 4)
    set_keys(one, torch.tensor([3]), torch.tensor([4]))
    assert torch.equal(one(images), solo(images))
    assert largest(read_slot(one, 0), solo.state_dict()) == 0.0


def test_a_nan_in_one_slot_touches_no_other() -> None:
    clean, spoilt = Stack(members("adamw")), Stack(members("adamw"))
    with torch.no_grad():
        next(iter(spoilt.net.parameters()))[1].fill_(float("nan"))
    for array in (clean, spoilt):
        for _ in range(3):
            array.step()
    for slot in (0, 2):
        assert largest(read_slot(spoilt.net, slot), read_slot(clean.net, slot)) == 0.0
    assert not all(torch.isfinite(tensor).all() for tensor in read_slot(spoilt.net, 1).values())


def test_names_modes_and_copies_are_those_of_the_model() -> None:
    solo = concat(members("sgd")[1])
    net = stack([solo, solo])
    assert [name for name, _ in net.named_modules()] == [name for name, _ in solo.named_modules()]
    assert [(n, p.shape[1:]) for n, p in net.named_parameters()] == [(n, p.shape) for n, p in solo.named_parameters()]
    assert net.state_dict().keys() == solo.state_dict().keys()
    twin = copy.deepcopy(net).eval()
    assert isinstance(twin, StackedNet) and not any(module.training for module in twin.modules()) and net.training
    with torch.no_grad():
        next(twin.parameters()).zero_()
    images = spread_images(torch.stack([batch(0, 0)[0]] * 2))
    assert next(net.parameters()).abs().sum() > 0 and not torch.equal(twin(images), net.eval()(images))


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_nets_that_mix_channels_pass_the_probe_by_vmap_and_fail_it_packed(name: str) -> None:
    model = use_keyed_dropout(build_model(TrainConfig(model=name, dropout=0.2), outputs=3, channels=3, image_size=32))
    packed, stacked = (probe(model, image_shape=(3, 32, 32), build=build) for build in (pack, stack))
    assert not packed.packs and packed.reason
    assert stacked.packs, stacked.reason


def test_a_parameter_outside_a_layer_is_not_packed() -> None:
    verdict = probe(concat(members("sgd")[0]).float(), image_shape=SHAPE)
    assert not verdict.packs and "scale outside a layer" in verdict.reason


class Functional(nn.Module):
    """Drops by a call that no layer shows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.dropout(self.linear(x.flatten(1)), 0.5, self.training)
        return out


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_a_dropout_without_keys_is_refused_by_name_unless_it_is_off(p: float) -> None:
    net = nn.Sequential(nn.Flatten(), nn.AlphaDropout(p), nn.Linear(12, 2)).train()
    verdict = probe(net, image_shape=(3, 2, 2), build=stack)
    assert verdict.packs == (p == 0)
    if p:
        assert "1: AlphaDropout draws from torch's one generator" in verdict.reason
        with pytest.raises(NotPackable, match="AlphaDropout"):
            stack([net, net])
        net[1].eval()
        stack([net, net])


def test_random_numbers_that_no_layer_shows_and_other_shapes_are_refused_too() -> None:
    assert "draws from torch's one generator" in probe(Functional(), image_shape=(1, 2, 2), build=stack).reason
    with pytest.raises(NotPackable, match="differ in name or shape"):
        stack([nn.Linear(2, 3), nn.Linear(2, 4)])


def test_reduced_precision_that_vmap_would_drop_is_noticed() -> None:
    cpu = torch.device("cpu")
    assert [autocast_misses(precision, cpu) for precision in ("fp32", "fp64", "bf16")] == [False, False, True]
