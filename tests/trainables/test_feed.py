"""The order of an epoch: complete, seeded, independent of batching; and balanced draws by their frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.feed import ImageFeed, balanced, shuffled, steps_per_epoch


@pytest.mark.parametrize(("rows", "size", "steps"), [(100, 64, 2), (128, 64, 2), (129, 64, 3), (5, 64, 1), (3, 1, 3)])
def test_steps_cover_all_rows_with_batches_of_at_most_the_size(rows: int, size: int, steps: int) -> None:
    assert steps_per_epoch(rows, size) == steps
    sizes = [len(part) for part in torch.arange(rows).tensor_split(steps)]
    assert sum(sizes) == rows
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_an_epochs_order_is_a_permutation_of_its_own() -> None:
    first = shuffled(50, seed=3, epoch=0)
    assert torch.equal(first.sort().values, torch.arange(50))
    assert torch.equal(first, shuffled(50, seed=3, epoch=0))
    assert not torch.equal(first, shuffled(50, seed=3, epoch=1))
    assert not torch.equal(first, shuffled(50, seed=4, epoch=0))


def test_balanced_draws_give_each_class_that_occurs_its_equal_share() -> None:
    targets = np.array([0] * 900 + [2] * 90 + [3] * 10)
    drawn = torch.cat([balanced(targets, seed=0, epoch=epoch) for epoch in range(4)]).numpy()
    counts = np.bincount(targets[drawn], minlength=4)
    assert counts[1] == 0
    assert np.all(np.abs(counts[[0, 2, 3]] / 4000 - 1 / 3) < 0.03)
    assert len(np.unique(drawn[targets[drawn] == 3])) == 10
    assert np.array_equal(balanced(targets, seed=0, epoch=0), balanced(targets, seed=0, epoch=0))
    assert not np.array_equal(balanced(targets, seed=0, epoch=0), balanced(targets, seed=0, epoch=1))


def test_rows_are_gathered_from_memory_and_from_a_read_only_map(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    rows = torch.tensor([7, 0, 7])
    for stored in (images, np.load(tmp_path / "images.npy", mmap_mode="r")):
        feed = ImageFeed(stored, torch.device("cpu"))
        assert len(feed) == 9
        assert np.array_equal(feed.gather(rows).numpy(), images[[7, 0, 7]])
