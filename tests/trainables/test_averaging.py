"""EMA and SWA against their sums written out, and BatchNorm statistics against the averaged weights' own activations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainables.averaging import WeightAverage
from trainables.runtime import seeded


def net() -> nn.Sequential:
    with seeded(0, "init"):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def moved(model: nn.Module, steps: int) -> list[torch.Tensor]:
    """Return the values of the last bias as it wanders, moving every parameter by the same amounts."""
    values = []
    for step in range(steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * (step + 1) ** 2
        values.append(model[4].bias.detach().clone())
    return values


def test_swa_is_the_plain_mean_of_what_it_saw() -> None:
    model = net()
    average = WeightAverage(model, "swa")
    seen = []
    for _ in range(4):
        seen += moved(model, 1)
        average.update(model)
    torch.testing.assert_close(average.model[4].bias, torch.stack(seen).mean(0))
    assert average.count == 4


def test_ema_weighs_by_its_decay_after_a_warm_start() -> None:
    model = net()
    average = WeightAverage(model, "ema", decay=0.5)
    expected = model[4].bias.detach().clone()
    for count in range(20):
        moved(model, 1)
        average.update(model)
        keep = min(0.5, (1 + count) / (10 + count))
        expected = keep * expected + (1 - keep) * model[4].bias.detach()
    torch.testing.assert_close(average.model[4].bias, expected)


def test_norms_of_the_averaged_weights_are_measured_anew() -> None:
    model = net().train()
    average = WeightAverage(model, "ema", decay=0.9)
    moved(model, 3)
    average.update(model)
    batches = [torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    live = copy.deepcopy(model.state_dict())
    average.refresh_buffers(model, batches)
    activations = average.model[0](torch.cat(batches)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(average.model[1].running_mean, activations.mean(1))
    torch.testing.assert_close(average.model[1].running_var, activations.view(4, 3, -1).var(2).mean(1), rtol=0.2, atol=1e-3)
    assert all(torch.equal(value, live[name]) for name, value in model.state_dict().items())
    assert average.model.training
    assert average.model[1].momentum == pytest.approx(0.1)


def test_state_goes_on_bit_for_bit() -> None:
    model = net()
    average = WeightAverage(model, "ema")
    moved(model, 2)
    average.update(model)
    other = WeightAverage(net(), "ema")
    other.load_state(copy.deepcopy(average.state()))
    moved(model, 1)
    average.update(model)
    other.update(model)
    assert all(torch.equal(a, b) for a, b in zip(average.model.parameters(), other.model.parameters(), strict=True))
    assert other.count == 2
