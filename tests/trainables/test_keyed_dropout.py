"""Keys of an epoch hashed at once, and masks made ahead, are those of each step; a share p is dropped, whatever the kind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainables import keyed_dropout
from trainables.keyed_dropout import KINDS, KeyedDropout, StepKeys, keyed_layers, set_keys, use_keyed_dropout
from trainables.randomness import int32_draws, key


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


def slots(kind: str, *p: float) -> KeyedDropout:
    return KeyedDropout(torch.tensor(p), layer=2, kind=kind)


def masks(layer: KeyedDropout, seeds: Tensor, sizes: list[int], *, ahead: bool) -> list[Tensor]:
    """What each step multiplies with, by the layer's forward on ones, its steps to come known to it or not."""
    found, steps = [], StepKeys(nn.Sequential(layer), seeds, first=9, count=len(sizes))
    for number, size in enumerate(sizes):
        steps.set(number)
        if not ahead:
            layer.coming = None
        found.append(layer(torch.ones(size, 3 * len(layer.p), 5, 7)))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 2000, 1 << 15])
def test_masks_made_ahead_are_each_steps_own(kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_dropout, "AHEAD", at_once)
    seeds, sizes = torch.tensor([4, 11]), [8, 8, 7, 7, 9, 1]
    each = masks(slots(kind, 0.5, 0.3), seeds, sizes, ahead=False)
    together = masks(slots(kind, 0.5, 0.3), seeds, sizes, ahead=True)
    assert all(torch.equal(a, b) for a, b in zip(each, together, strict=True))
    alone = masks(slots(kind, 0.3), seeds[1:], sizes, ahead=True)
    assert all(torch.equal(a[:, 3:], b) for a, b in zip(together, alone, strict=True))


def test_small_masks_of_several_steps_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(keys: Tensor, pairs: int) -> Tensor:
        drawn.append(keys.numel())
        return int32_draws(keys, pairs)

    monkeypatch.setattr(keyed_dropout, "int32_draws", counted)
    sizes = [8, 8, 8, 7, 7, 7]
    monkeypatch.setattr(keyed_dropout, "AHEAD", 2 * 4 * 8 * 105)  # four steps of both slots
    masks(slots("element", 0.5, 0.3), torch.tensor([4, 11]), sizes, ahead=True)
    assert drawn == [8, 4]
    drawn.clear()
    masks(slots("element", 0.5, 0.3), torch.tensor([4, 11]), sizes, ahead=False)
    assert drawn == [2] * 6


def test_a_copied_layer_draws_what_its_own_key_says() -> None:
    layer = slots("element", 0.5)
    steps = StepKeys(nn.Sequential(layer), 3, first=0, count=400)
    steps.set(7)
    twin = copy.deepcopy(layer)
    assert twin.coming is None
    ones = torch.ones(4, 3, 5, 7)
    assert torch.equal(twin(ones), layer(ones))


def test_a_probability_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed: below 1"):
        slots("element", 0.5, 1.0)


@pytest.mark.parametrize(("kind", "draws"), [("element", 105), ("channel", 3), ("row", 1)])
@pytest.mark.parametrize("p", [0.03, 0.4, 0.95])
def test_a_share_p_is_dropped_and_the_mean_stays(kind: str, draws: int, p: float) -> None:
    found = torch.cat(masks(slots(kind, p), torch.tensor([1]), [1000] * 4, ahead=True))
    assert sorted(found.unique().tolist()) == pytest.approx([0.0, 1 / (1 - p)])
    spread = (p * (1 - p) / (4000 * draws)) ** 0.5
    assert abs(float((found == 0).double().mean()) - p) < 4 * spread
    own = {"element": (0, 1, 2, 3), "channel": (0, 1), "row": (0,)}[kind]  # what one draw decides is dropped or kept whole
    whole = found.amax(dim=[d for d in range(4) if d not in own]) if len(own) < 4 else found
    assert float((whole == 0).double().mean()) == pytest.approx(float((found == 0).double().mean()), abs=1e-12)


def test_a_changed_probability_counts_at_once() -> None:
    layer = slots("element", 0.5, 0.5)
    steps = StepKeys(nn.Sequential(layer), torch.tensor([1, 2]), first=0, count=3)
    steps.set(0)
    layer(torch.ones(4, 6, 5, 7))
    layer.set_p(1, 0.0)
    assert torch.equal(layer(torch.ones(4, 6, 5, 7))[:, 3:], torch.ones(4, 3, 5, 7))
    steps.set(1)
    assert torch.equal(layer(torch.ones(4, 6, 5, 7))[:, 3:], torch.ones(4, 3, 5, 7))
