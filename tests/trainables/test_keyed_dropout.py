"""The keys of an epoch hashed at once are those of each step, for one model and for slots with steps of their own."""

from __future__ import annotations

import torch
from torch import nn

from trainables.keyed_dropout import KeyedDropout, StepKeys, keyed_layers, set_keys, use_keyed_dropout
from trainables.randomness import key


def net() -> nn.Module:
    return use_keyed_dropout(nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.2)))


def test_keys_hashed_at_once_are_each_steps_own() -> None:
    model = net()
    keys = StepKeys(model, 7, first=40, count=5)
    for number in (0, 4, 2):
        keys.set(number)
        for layer, module in enumerate(keyed_layers(model)):
            assert module.keys.tolist() == [int(key(7, "dropout", 40 + number, layer))]


def test_slots_have_their_own_seeds_and_steps() -> None:
    model = nn.Sequential(KeyedDropout(torch.tensor([0.5, 0.1, 0.0]), layer=3, kind="element"))
    seeds, first = torch.tensor([1, 9, 4]), torch.tensor([0, 30, 7])
    StepKeys(model, seeds, first=first, count=3).set(2)
    [layer] = keyed_layers(model)
    assert layer.keys.tolist() == [int(key(s, "dropout", f + 2, 3)) for s, f in ((1, 0), (9, 30), (4, 7))]
    set_keys(model, seeds, first + 2)
    assert layer.keys.tolist() == [int(key(s, "dropout", f + 2, 3)) for s, f in ((1, 0), (9, 30), (4, 7))]
