"""The DataLoader path, for images that are decoded each time: batches of given rows by worker processes, timed and tuned."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.cores import usable_cpus
from trainables.data.dataset import ImageSet


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are loaded; pinning and non-blocking copies only take effect where there is a CUDA device."""

    workers: int = 0
    pin_memory: bool = False
    non_blocking: bool = False
    prefetch_factor: int = 2
    """Batches each worker prepares ahead."""
    persistent_workers: bool = True
    """Workers live on from epoch to epoch."""


CANON: dict[str, LoaderSettings] = {
    "0 workers": LoaderSettings(),
    "2 workers": LoaderSettings(workers=2),
    "4 workers, pinned": LoaderSettings(workers=4, pin_memory=True),
    "4 workers, pinned, non-blocking": LoaderSettings(workers=4, pin_memory=True, non_blocking=True),
}
"""The four configurations of the classic exercise: which one is fastest is a matter of the machine."""


@dataclass(frozen=True)
class LoaderTiming:
    """One timed pass: seconds until the first batch, seconds in all, images a second."""

    settings: LoaderSettings
    first_batch_seconds: float
    seconds: float
    images: int

    @property
    def images_per_second(self) -> float:
        """Return the rate of the whole pass, start of the workers included."""
        return self.images / max(self.seconds, 1e-9)


class RowLoader:
    """Loads the rows of an image set batch by batch, in exactly the order asked for, whatever the settings."""

    def __init__(self, part: ImageSet, settings: LoaderSettings, *, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.settings = settings
        self._rows = _Batches()
        on_cuda = self.device.type == "cuda"
        self._non_blocking = settings.non_blocking and on_cuda
        more: dict[str, Any] = {}
        if settings.workers:
            more = {"prefetch_factor": settings.prefetch_factor, "persistent_workers": settings.persistent_workers}
            more["worker_init_fn"] = _hears_terminate
        self._loader: DataLoader[Tensor] = DataLoader(
            _Rows(part.images),
            batch_sampler=self._rows,
            num_workers=settings.workers,
            pin_memory=settings.pin_memory and on_cuda,
            collate_fn=_as_it_is,
            **more,
        )

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield uint8 images [B, H, W, C] on the device for each int64 [B] of `rows`."""
        self._rows.parts = [part.tolist() for part in rows]
        for images in self._loader:
            yield images.to(self.device, non_blocking=self._non_blocking)


def time_loader(
    part: ImageSet, settings: LoaderSettings, *, batch_size: int, device: torch.device | str = "cpu", limit: int = 0
) -> LoaderTiming:
    """Time one pass over the rows in order (the first `limit` batches of it; 0: all), start of the workers included."""
    rows = list(torch.split(torch.arange(len(part)), batch_size))
    rows = rows[:limit] if limit else rows
    loader = RowLoader(part, settings, device=device)
    started = time.perf_counter()
    first, images = 0.0, 0
    for batch in loader.batches(rows):
        first = first or time.perf_counter() - started
        images += len(batch)
    if loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)
    return LoaderTiming(settings, first, time.perf_counter() - started, images)


def pick_settings(
    part: ImageSet, *, batch_size: int, device: torch.device | str = "cpu", limit: int = 32
) -> tuple[LoaderSettings, list[LoaderTiming]]:
    """Measure a few settings on this machine and return the fastest with all timings.

    More workers must win by a tenth, since they cost memory and a start: on images that are decoded already they never do.
    """
    pinned = torch.device(device).type == "cuda"
    timings = [
        time_loader(
            part,
            LoaderSettings(workers=workers, pin_memory=pinned, non_blocking=pinned),
            batch_size=batch_size,
            device=device,
            limit=limit,
        )
        for workers in sorted({0, *(count for count in (2, 4, 8) if count <= usable_cpus())})
    ]
    return choose(timings), timings


def choose(timings: Sequence[LoaderTiming]) -> LoaderSettings:
    """Return the settings of the fastest timing, where each step up in workers has to gain a tenth."""
    best = timings[0]
    for timing in timings[1:]:
        if timing.images_per_second > 1.1 * best.images_per_second:
            best = timing
    return best.settings


class _Rows(Dataset[Tensor]):
    """An array of images of which a whole batch is asked for at once."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return torch.from_numpy(np.array(self.images[row]))

    def __getitems__(self, rows: list[int]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.images[np.asarray(rows, dtype=np.int64)]))


class _Batches(Sampler[list[int]]):
    """Row numbers of each batch of the coming epoch; kept in one object so that workers outlive an epoch."""

    def __init__(self) -> None:
        self.parts: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def _as_it_is(batch: Any) -> Any:
    return batch


def _hears_terminate(_: int) -> None:
    """Let a stuck loader's process be ended by `terminate`, also where the training process has that signal blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
