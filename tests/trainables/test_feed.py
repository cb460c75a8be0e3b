"""The order of an epoch: complete, seeded, independent of batching; and balanced draws by their frequencies."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import trainables.feed
from trainables.feed import ImageFeed, balanced, resident, shuffled, steps_per_epoch


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


@pytest.mark.parametrize(("limit", "gatherings"), [(4 << 20, 1), (2 * 3 * 48, 2), (1, 4)])
def test_small_batches_are_gathered_together_and_come_apart_again(
    limit: int, gatherings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    monkeypatch.setattr(trainables.feed, "AT_ONCE", limit)
    feed, asked = ImageFeed(images, torch.device("cpu")), list[int]()
    gather = feed.gather
    monkeypatch.setattr(feed, "gather", lambda rows: asked.append(len(rows)) or gather(rows))
    batches = [torch.tensor(rows) for rows in ([7, 0, 7], [1, 2], [8, 3, 4], [5, 6])]
    for found, rows in zip(feed.stream(batches), batches, strict=True):
        assert np.array_equal(found.numpy(), images[rows.numpy()])
    assert (len(asked), sum(asked)) == (gatherings, 10)


def test_images_that_are_decoded_when_asked_for_come_one_batch_at_a_time() -> None:
    feed = ImageFeed(Lazy(), torch.device("cpu"))  # type: ignore[arg-type]
    assert [len(found) for found in feed.stream([torch.arange(3), torch.arange(2)])] == [3, 2]
    assert Lazy.asked == [3, 2]


class Lazy:
    """Images that are no array."""

    asked: ClassVar[list[int]] = []

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.asked.append(len(rows))
        return np.zeros((len(rows), 2, 2, 3), np.uint8)


def test_models_of_a_process_share_one_copy_of_images_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [4000]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 10**9))
    images, device = np.zeros((10, 5, 5, 3), np.uint8), torch.device("cpu")  # 750 bytes; the function asks no GPU but for room
    one = resident(images, device)
    free[0] = 0  # a second copy would not fit, and need not
    other = resident(images, device)
    assert one is not None and other is one
    assert resident(images.copy(), device) is None
    del one, other
    assert resident(images, device) is None, "nobody held them any more"
    free[0] = 2999
    assert resident(images, device) is None
