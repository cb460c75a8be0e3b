"""The DataLoader path gives the rows asked for, in order, with and without workers; the choice follows the timings."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
import torch

from trainables.data.dataset import ImageSet
from trainables.data.loader import CANON, LoaderSettings, LoaderTiming, RowLoader, choose, pick_settings, time_loader


@pytest.fixture
def part() -> ImageSet:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    images.flags.writeable = False  # as the memory map is
    return ImageSet(images, np.arange(20), tuple(map(str, range(20))))


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_in_the_order_asked_for_epoch_after_epoch(part: ImageSet, workers: int) -> None:
    loader = RowLoader(part, LoaderSettings(workers=workers))
    for seed in range(2):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
        rows = list(torch.split(order, 8))
        batches = list(loader.batches(rows))
        assert [len(batch) for batch in batches] == [8, 8, 4]
        assert all(np.array_equal(batch.numpy(), part.images[row.numpy()]) for batch, row in zip(batches, rows, strict=True))


def test_a_worker_can_be_ended_where_who_started_it_hears_no_sigterm() -> None:
    class Heard(np.ndarray):  # type: ignore[type-arg]
        """Images that say whether the process that reads them has SIGTERM blocked."""

        def __getitem__(self, rows: Any) -> Any:
            return np.full((len(rows), 1, 1, 1), signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []), dtype=np.uint8)

    images = np.zeros((1, 1, 1, 1), dtype=np.uint8).view(Heard)
    loader = RowLoader(ImageSet(images, np.arange(1), ("a",)), LoaderSettings(workers=1))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        [heard] = loader.batches([torch.zeros(1, dtype=torch.int64)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert not heard.any()


def test_timing_counts_every_image(part: ImageSet) -> None:
    timing = time_loader(part, LoaderSettings(), batch_size=8)
    assert timing.images == 20
    assert 0 < timing.first_batch_seconds <= timing.seconds
    assert time_loader(part, LoaderSettings(), batch_size=8, limit=1).images == 8


def test_more_workers_have_to_gain_a_tenth() -> None:
    def timing(workers: int, seconds: float) -> LoaderTiming:
        return LoaderTiming(LoaderSettings(workers=workers), 0.1, seconds, 100)

    assert choose([timing(0, 1.0), timing(2, 0.95), timing(4, 0.5), timing(8, 0.48)]).workers == 4
    assert choose([timing(0, 1.0), timing(2, 2.0)]).workers == 0


def test_pick_measures_without_workers_first(part: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    settings, timings = pick_settings(part, batch_size=8)
    assert settings == LoaderSettings()
    assert len(timings) == 1


def test_the_canons_four_configurations() -> None:
    assert [(s.workers, s.pin_memory, s.non_blocking) for s in CANON.values()] == [
        (0, False, False), (2, False, False), (4, True, False), (4, True, True),
    ]  # fmt: skip
