"""Counter-based draws: the published generator's own numbers, independence of batching, and plain statistics."""

from __future__ import annotations

import torch

from trainables.randomness import STREAMS, _finalise, extended, int32_draws, key, permutation, uniform

_MASK = (1 << 64) - 1


def _splitmix_finaliser(x: int) -> int:
    """The reference in Python's own integers."""
    x &= _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def test_finaliser_equals_the_reference_in_python_integers() -> None:
    values = [0, 1, -1, 2**40 + 7, -(2**62) + 5, 123456789]
    ours = _finalise(torch.tensor(values)).tolist()
    assert [o & _MASK for o in ours] == [_splitmix_finaliser(v) for v in values]


def test_first_splitmix_output_is_the_published_one() -> None:
    golden = 0x9E3779B97F4A7C15
    assert _splitmix_finaliser(golden) == 0xE220A8397B1DCDAF
    assert int(_finalise(torch.tensor(golden - (1 << 64)))) & _MASK == 0xE220A8397B1DCDAF


def test_words_are_splitmixs_sequence_cut_in_two() -> None:
    seed = 0x1234567890ABCDEF
    sequence = [_splitmix_finaliser(seed + i * 0x9E3779B97F4A7C15) for i in (1, 2, 3)]
    wanted = [half for number in sequence for half in (number & 0xFFFFFFFF, number >> 32)]
    assert [word & 0xFFFFFFFF for word in int32_draws(torch.tensor(seed), 3).tolist()] == wanted
    assert [word & 0xFFFFFFFF for word in int32_draws(torch.tensor([5, seed]), 2)[1].tolist()] == wanted[:4]


def test_draws_do_not_depend_on_batching_or_on_other_slots() -> None:
    index = torch.arange(64)
    whole = uniform(key(7, "augment", 3), index, 5)
    parts = torch.cat([uniform(key(7, "augment", 3), part, 5) for part in index.split(10)])
    assert torch.equal(whole, parts)
    seeds = torch.tensor([1, 7, 9])
    slots = uniform(key(seeds, "augment", 3).unsqueeze(1), index.unsqueeze(0), 5)
    assert torch.equal(slots[1], whole)


def test_what_is_hashed_stays_as_it_was() -> None:
    seeds, index = torch.tensor([1, 7]), torch.arange(5)
    keys = key(seeds, "augment", index[3])
    again = keys.clone()
    uniform(keys.unsqueeze(1), index, 2)
    assert torch.equal(keys, again)
    assert (seeds.tolist(), index.tolist()) == ([1, 7], [0, 1, 2, 3, 4])


def test_a_key_is_its_words_one_after_another_however_they_are_given() -> None:
    for given in ((0, 3), (2**31 + 5, -7), (-(2**63), 2**63 - 1)):
        whole = key(7, "augment", *given)
        assert torch.equal(extended(key(7, "augment", given[0]), given[1]), whole)
        assert torch.equal(key(7, "augment", *(torch.tensor(word) for word in given)), whole)
        assert torch.equal(key(torch.tensor([7, 7]), "augment", *given), whole.expand(2))


def test_streams_epochs_and_seeds_differ() -> None:
    index = torch.arange(1000)
    base = uniform(key(0, "order", 0), index)
    for other in (key(1, "order", 0), key(0, "order", 1), key(0, "augment", 0)):
        correlation = torch.corrcoef(torch.stack([base.squeeze(), uniform(other, index).squeeze()]))[0, 1]
        assert abs(float(correlation)) < 0.12
    assert len(set(STREAMS.values())) == len(STREAMS)


def test_uniforms_are_uniform() -> None:
    draws = uniform(key(0, "mix"), torch.arange(20_000), 4).flatten()
    assert float(draws.min()) >= 0.0
    assert float(draws.max()) < 1.0
    counts = torch.histc(draws.float(), bins=20, min=0.0, max=1.0)
    chi_square = float(((counts - 4000) ** 2 / 4000).sum())
    assert chi_square < 43.8  # 99.9 % point of chi-square with 19 degrees of freedom


def test_permutation_is_one_and_changes_with_the_epoch() -> None:
    first, second = permutation(3, "order", 0, 101), permutation(3, "order", 1, 101)
    assert sorted(first.tolist()) == list(range(101))
    assert first.tolist() != second.tolist()
    assert torch.equal(first, permutation(3, "order", 0, 101))
