"""Packed models equal the same models alone in float64: outputs, gradients, statistics, and the optimisers' steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.keyed_dropout import set_keys, use_keyed_dropout
from trainables.models import build_model
from trainables.optim import build_optimizer
from trainables.slots.layers import NotPackable
from trainables.slots.optimiser import SlotOptimizer, rules_of
from trainables.slots.pack import gather_outputs, pack, read_slot, spread_images
from trainables.slots.probe import probe

SHAPE = (3, 8, 8)


def solo_model(config: TrainConfig) -> nn.Module:
    return use_keyed_dropout(build_model(config, outputs=5, channels=3, image_size=8)).double()


def configs(base: TrainConfig, slots: int) -> list[TrainConfig]:
    return [
        base.replace(
            seed=s, lr=0.01 * (s + 1), weight_decay=0.02 * s, dropout=0.2 * s, momentum=0.5 + 0.1 * s, nesterov=s % 2 == 0,
            beta2=0.9 + 0.02 * s, clip_norm=0.0 if s == 1 else 1.0,
        )
        for s in range(slots)
    ]  # fmt: skip


def batch(step: int, slot: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + slot)
    return torch.randn(6, *SHAPE, generator=generator, dtype=torch.float64), torch.randint(5, (6,), generator=generator)


def train_alone(config: TrainConfig, steps: int) -> dict[str, Tensor]:
    model = solo_model(config).train()
    optimizer = build_optimizer(model, config)
    for step in range(steps):
        images, labels = batch(step, config.seed)
        set_keys(model, config.seed, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    return copy.deepcopy(model.state_dict())


class Packed:
    """A bare pool: K slots, each with its own numbers."""

    def __init__(self, members: list[TrainConfig]) -> None:
        solos = [solo_model(config) for config in members]
        self.members = members
        self.packed = pack(solos).train()
        rules = [rules_of(solo, build_optimizer(solo, config), config) for solo, config in zip(solos, members, strict=True)]
        self.optimizer = SlotOptimizer(self.packed, rules, family=members[0].optimizer)
        for slot, config in enumerate(members):
            self.optimizer.take(slot, config)
        self.steps = [0] * len(members)

    def step(self) -> None:
        batches = [batch(self.steps[k], config.seed) for k, config in enumerate(self.members)]
        set_keys(self.packed, torch.tensor([c.seed for c in self.members]), torch.tensor(self.steps))
        self.optimizer.zero_grad()
        outputs = gather_outputs(self.packed(spread_images(torch.stack([images for images, _ in batches]))), len(batches))
        losses = [nn.functional.cross_entropy(o, labels) for o, (_, labels) in zip(outputs, batches, strict=True)]
        torch.stack(losses).sum().backward()
        limits = torch.tensor([c.clip_norm for c in self.members], dtype=torch.float64)
        self.optimizer.clip(self.optimizer.grad_norms(), limits)
        self.optimizer.step()
        self.steps = [s + 1 for s in self.steps]


def largest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("model", ["cnn_c", "cifar_resnet"])
def test_25_steps_of_a_slot_equal_25_steps_alone(model: str, optimizer: str) -> None:
    base = TrainConfig(model=model, width=4, depth=8, optimizer=optimizer, dropout2d=0.1, drop_path=0.1 * (model != "cnn_c"))
    members = configs(base, 3)
    packed = Packed(members)
    for _ in range(25):
        packed.step()
    for slot, config in enumerate(members):
        assert largest(read_slot(packed.packed, slot), train_alone(config, 25)) < 1e-10


@pytest.mark.parametrize("seed", range(5))  # a reduction's order shows in the bits of some values only
def test_order_number_of_slots_and_late_join_do_not_change_a_bit(seed: int) -> None:
    members = [c.replace(seed=c.seed + 100 * seed) for c in configs(TrainConfig(model="cnn_c", width=4, optimizer="sgd"), 4)]
    straight, turned, alone = Packed(members), Packed(members[::-1]), Packed(members[2:3])
    late = Packed(members[:2])
    late.step()
    late.members = [members[0], members[2]]  # slot 1 is given to another trial after one step
    write_slot(late.packed, 1, solo_model(members[2]).state_dict())
    late.packed = _with_dropout_of(late.packed, members[2], slot=1)
    late.optimizer.take(1, members[2])
    late.steps[1] = 0
    for pool in (straight, turned, alone, late):
        for _ in range(5):
            pool.step()
    wanted = read_slot(straight.packed, 2)
    for pool, slot in ((turned, 1), (alone, 0), (late, 1)):
        assert largest(read_slot(pool.packed, slot), wanted) == 0.0


def _with_dropout_of(packed: nn.Module, config: TrainConfig, *, slot: int) -> nn.Module:
    from trainables.keyed_dropout import keyed_layers

    for ours, solo in zip(keyed_layers(packed), keyed_layers(solo_model(config)), strict=True):
        ours.set_p(slot, float(solo.p[0]))
    return packed


def test_a_nan_in_one_slot_touches_no_other() -> None:
    members = configs(TrainConfig(model="cnn_b", width=4, optimizer="adamw"), 3)
    clean, spoilt = Packed(members), Packed(members)
    with torch.no_grad():
        next(iter(spoilt.packed.parameters()))[1].fill_(float("nan"))
    for pool in (clean, spoilt):
        for _ in range(3):
            pool.step()
    for slot in (0, 2):
        assert largest(read_slot(spoilt.packed, slot), read_slot(clean.packed, slot)) == 0.0
    assert not all(torch.isfinite(t).all() for t in read_slot(spoilt.packed, 1).values())


@torch.no_grad()
def write_slot(packed: nn.Module, slot: int, state: Mapping[str, Tensor]) -> None:
    for name, tensor in packed.state_dict(keep_vars=True).items():
        tensor.data[slot].copy_(state[name])


def read_optimizer(optimizer: SlotOptimizer, slot: int) -> dict[int, dict[str, Tensor]]:
    return {
        optimizer.tables[slot][name].index: {key: value.clone() for key, value in optimizer.views(name, slot).items()}
        for name in optimizer.state
    }


def test_optimiser_state_goes_to_a_solo_run_and_back() -> None:
    config = TrainConfig(model="cnn_b", width=4, optimizer="adamw", lr=0.01)
    pool = Packed([config, config.replace(seed=1)])
    for _ in range(3):
        pool.step()
    model = solo_model(config)
    model.load_state_dict(read_slot(pool.packed, 0))
    optimizer = build_optimizer(model, config)
    stored = optimizer.state_dict()
    optimizer.load_state_dict({**stored, "state": read_optimizer(pool.optimizer, 0)})
    other = Packed([config.replace(seed=1), config])
    write_slot(other.packed, 1, model.state_dict())
    other.optimizer.write(1, optimizer.state_dict()["state"], steps=3)
    for name, buffers in pool.optimizer.state.items():
        for key, buffer in buffers.items():
            assert torch.equal(buffer[0], other.optimizer.state[name][key][1])


@pytest.mark.parametrize("name", ["cnn_a", "cnn_c", "cifar_resnet", "resnet18", "mobilenet_v2"])
def test_probe_accepts_nets_that_keep_channels_apart(name: str) -> None:
    config = TrainConfig(model=name, width=4, depth=8)
    model = use_keyed_dropout(build_model(config, outputs=3, channels=3, image_size=32))
    verdict = probe(model, image_shape=(3, 32, 32))
    assert verdict.packs, verdict.reason


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_probe_catches_nets_that_convert_silently_wrong(name: str) -> None:
    model = use_keyed_dropout(build_model(TrainConfig(model=name), outputs=3, channels=3, image_size=64))
    verdict = probe(model, image_shape=(3, 64, 64))
    assert not verdict.packs
    assert verdict.reason


def test_a_layer_without_a_packed_form_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
    with pytest.raises(NotPackable, match="1: InstanceNorm2d"):
        pack([model, copy.deepcopy(model)])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_spreading_puts_each_slots_channels_side_by_side_in_either_layout(layout: torch.memory_format) -> None:
    images = torch.randn(3, 2, 4, 5, 6)
    spread = spread_images(images, layout)
    assert spread.is_contiguous(memory_format=layout)
    assert torch.equal(spread, torch.cat(list(images), dim=1))
