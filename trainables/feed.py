"""Which rows an epoch sees, in which order, and how their pixels reach the device: batches are indices into the store."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.dataset import ImageSet
from trainables.data.loader import LoaderSettings, RowLoader, pick_settings
from trainables.randomness import key, permutation, uniform

RESIDENT_SHARE = 0.25
"""Decoded images live on a CUDA device when they take at most this share of its free memory."""

AT_ONCE = 4 << 20
"""Bytes that one gathering of several small batches may take."""


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many steps an epoch takes: batches of at most `batch_size` whose sizes differ by at most one."""
    return max(1, math.ceil(rows / batch_size))


def shuffled(count: int, *, seed: int, epoch: int) -> Tensor:
    """Return a permutation [count] that depends on (seed, epoch) alone."""
    return permutation(seed, "order", epoch, count)


def balanced(targets: NDArray[np.int64], *, seed: int, epoch: int) -> Tensor:
    """Return positions [N] drawn with replacement so that each class that occurs is equally likely at every draw."""
    order = np.argsort(targets, kind="stable")
    _, starts, counts = np.unique(targets[order], return_index=True, return_counts=True)
    draws = uniform(key(seed, "sampler", epoch), torch.arange(len(targets)), 2).numpy()
    chosen = (draws[:, 0] * len(starts)).astype(np.int64)
    within = (draws[:, 1] * counts[chosen]).astype(np.int64)
    return torch.from_numpy(order[starts[chosen] + within])


Stream = Callable[[Sequence[Tensor]], Iterator[Tensor]]
"""Row numbers [B] of each batch -> uint8 images [B, H, W, C] on the device, batch by batch."""


_HELD: weakref.WeakValueDictionary[tuple[int, torch.device], Tensor] = weakref.WeakValueDictionary()
"""Images on a device by the array that they were copied from, as long as a feed, which has the array too, holds them."""


def resident(images: NDArray[np.uint8], device: torch.device) -> Tensor | None:
    """Return the images in a CUDA device's memory, one copy for all feeds of this process, or None where they take too much."""
    held = _HELD.get((id(images), device))
    if held is None and images.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        held = _HELD[id(images), device] = torch.from_numpy(np.array(images)).to(device)
    return held


class ImageFeed:
    """Gathers uint8 images [N, H, W, C] by row: from the device's memory where they fit there, else from the host's."""

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self.images, self.device = images, device
        held = device.type == "cuda" and isinstance(images, np.ndarray)
        self.resident = resident(images, device) if held else None

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows' images as uint8 [B, H, W, C] on the device."""
        if self.resident is not None:
            return self.resident[rows.to(self.device)]
        found = torch.from_numpy(np.ascontiguousarray(self.images[rows.numpy()]))
        if self.device.type == "cuda":
            return found.pin_memory().to(self.device, non_blocking=True)
        return found.to(self.device)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch of row numbers; many small batches are gathered at once."""
        several = self._at_once(batches)
        for start in range(0, len(batches), several):
            some = batches[start : start + several]
            yield from torch.split(self.gather(torch.cat(tuple(some))), [len(rows) for rows in some])

    def _at_once(self, batches: Sequence[Tensor]) -> int:
        """Return how many of the batches are gathered together: one where each image is decoded when it is asked for."""
        if not isinstance(self.images, np.ndarray):
            return 1
        largest = max((len(rows) for rows in batches), default=1) * self.images[:1].nbytes
        return max(1, AT_ONCE // max(1, largest))


def training_stream(part: ImageSet, feed: ImageFeed, *, workers: int, batch_size: int) -> Stream:
    """Return how training batches are loaded: by `feed` itself (0 workers), by so many worker processes, or (-1) as measured.

    Workers pay where images are decoded each time; the batches are the same whichever way.
    """
    if workers == 0:
        return feed.stream
    settings = LoaderSettings(workers=workers, pin_memory=True, non_blocking=True)
    if workers < 0:
        settings, _ = pick_settings(part, batch_size=batch_size, device=feed.device)
    return RowLoader(part, settings, device=feed.device).batches if settings.workers else feed.stream
