"""Training on a frozen backbone's cached activations: which trials may, where the files lie, and which view an epoch sees.

A trial that freezes its backbone up to a cut gives every image the same activations there in each epoch. They are computed once
a node, and only the layers above train on them. Where images are augmented, each of `VIEWS` views is cached when an epoch first
wants it, so the first epochs cost what they would without the cache, and later ones only the layers above the cut.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.augment import augment_batch, parse_set, to_float
from trainables.augment.sets import AugmentationSet
from trainables.config import TrainConfig
from trainables.data.cache import FACTS, IMAGES, cache_folder, free_bytes
from trainables.data.dataset import ImageSet, Splits
from trainables.features import cached_features, cut_model
from trainables.feed import ImageFeed, Stream
from trainables.inference import InferenceModel
from trainables.loop import Batch, evaluate
from trainables.models import InputPipeline
from trainables.randomness import permutation
from trainables.runtime import autocast, memory_format, parameter_dtype

VIEWS = 4
"""Cached augmented views of an image; a round of so many epochs shows each once, in an order that the trial's seed shuffles."""
DISK_SHARE = 0.2
"""The files of all cuts and views together take at most this share of the disk's free space; the longest unused go first."""
MEMORY_SHARE = 0.25
"""One view must fit in this share of the machine's memory, or reading it at random would be slower than computing it."""
FOLDER = "features"
Ready = Callable[[Tensor], Tensor]
"""Float images [B, C, H, W] in [0, 1] -> what the network takes."""
_LOG = logging.getLogger(__name__)


def open_features(
    model: nn.Module, config: TrainConfig, splits: Splits, pipeline: InputPipeline, *, ready: Ready, stream: Stream
) -> FeatureFeed | None:
    """Return the feed of a trial that trains on cached activations, or None (the log says why) where it has to see images.

    `ready` turns float images in [0, 1] into what the network takes, `stream` loads training rows as for any other trial.
    """
    reason = needs_images(config)
    if not reason:
        try:
            feed = FeatureFeed(model, config, splits, pipeline, ready=ready, stream=stream)
            reason = feed.does_not_fit()
        except ValueError as error:  # the forward cannot be cut there
            reason = str(error)
    if reason:
        _LOG.debug("training on images: %s", reason)
        return None
    _LOG.info("training on cached features of %s up to %s (%s)", config.model, feed.cut.stage, feed.folder)
    return feed


def needs_images(config: TrainConfig) -> str:
    """Return why a configuration cannot train on cached activations ("": it can)."""
    if config.finetune_depth == "all":
        return "train.finetune_depth is 'all': nothing stays frozen"
    if config.mixup or config.cutmix:
        return "mixup and cutmix mix images before the backbone"
    if parse_set(config.augmentation).own:
        return "an own transform may change between two runs under the same name"
    if config.precision == "fp64":
        return "features are kept in 16 or 32 bits"
    return "the graph of the whole network is compiled" if config.compile == "on" else ""


class FeatureFeed:
    """What stands for the images of a frozen backbone: training batches by epoch, and the validation split."""

    def __init__(
        self, model: nn.Module, config: TrainConfig, splits: Splits, pipeline: InputPipeline, *, ready: Ready, stream: Stream
    ) -> None:
        """Cut the model; raises ValueError where that is not possible. No feature is computed before it is asked for."""
        self.cut = cut_model(model, config)
        self.rest: nn.Module = self.cut.rest
        self.folder = _folder(splits.train)
        self._model, self._config, self._splits = model, config, splits
        self._ready, self._stream = ready, stream
        self._device = next(model.parameters()).device
        plain = config.magnitude == 0.0 or parse_set(config.augmentation) == AugmentationSet()
        self.views = 1 if plain else VIEWS
        self._augmentation = ("none", 1.0) if plain else (config.augmentation, config.magnitude)
        self._source = json.dumps([splits.fingerprint, pipeline.to_dict(), config.precision, config.memory_format])
        self._feeds: dict[str, ImageFeed] = {}
        self._rests: dict[int, nn.Module] = {id(model): self.rest}

    def does_not_fit(self) -> str:
        """Return why the features are not worth caching or have no room ("": they have)."""
        sample = self._ready(to_float(self._gather(self._splits.train, torch.arange(1)), dtype=torch.float32))
        with torch.no_grad(), autocast(self._config.precision, self._device):
            features = self.cut.prefix(sample)
        if features.numel() > sample.numel():
            return f"the features at {self.cut.stage} are larger than the images"
        size = features.numel() * np.dtype(self._dtype).itemsize
        one, total = len(self._splits.train) * size, (self.views * len(self._splits.train) + len(self._splits.val)) * size
        if one > MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            return f"a view of {one / 2**20:.0f} MiB does not fit in memory"
        if total > _budget(self.folder):
            return f"{total / 2**20:.0f} MiB of features do not fit in {self.folder}"
        return ""

    def view(self, epoch: int) -> int:
        """Return the view of a 0-based epoch: all of them once a round, shuffled anew for each round."""
        if self.views == 1:
            return 0
        return int(permutation(self._config.seed, "view", epoch // self.views, self.views)[epoch % self.views])

    def opens(self, split: str, epoch: int = 0) -> bool:
        """Tell whether features of "train" (as this epoch sees them) or "val" can be read, computing them if need be."""
        try:
            self._feed(split, self.view(epoch) if split == "train" else 0)
        except OSError as fault:  # a disk that is full or read-only, a quota
            _LOG.warning("features cannot be cached in %s (%s): this trial goes on with images", self.folder, fault)
            return False
        return True

    def forget(self) -> None:
        """Close all features: the frozen weights have changed."""
        self._feeds.clear()

    def batches(
        self, epoch: int, parts: Sequence[Tensor], *, rows: NDArray[np.int64], labels: Tensor, aims: Tensor
    ) -> Iterator[Batch]:
        """Yield the epoch's batches; `parts` are positions in the training rows, each with its label and its aim."""
        feed, numbers = self._feed("train", self.view(epoch)), torch.from_numpy(rows)
        stream = feed.stream([numbers[chosen] for chosen in parts])
        for features, chosen in zip(stream, parts, strict=True):
            here = chosen.to(self._device)
            known = labels[here]
            yield Batch(self._live(features), known if aims is labels else aims[here], known)

    def predict_val(self, served: InferenceModel) -> NDArray[np.float32]:
        """Return what `served` (of this model or its average) answers for the validation split, without test-time views."""
        network = served.network
        if id(network) not in self._rests:
            self._rests[id(network)] = cut_model(network, self._config).rest
        feed = self._feed("val", 0)
        chunks = torch.split(torch.arange(len(feed)), self._config.eval_batch_size)
        answers = _Answers(self._rests[id(network)], served)
        return evaluate(answers, (self._live(feed.gather(rows)) for rows in chunks), precision=self._config.precision)

    @property
    def _dtype(self) -> str:
        return "float16" if self._config.precision in ("fp16", "bf16") else "float32"

    def _feed(self, split: str, view: int) -> ImageFeed:
        name = f"{split} {view}"
        if name not in self._feeds:
            try:
                mapped = self._computed(split, view, self._dtype)
            except ValueError:  # bf16 reaches farther than float16
                mapped = self._computed(split, view, "float32")
            self._feeds[name] = ImageFeed(cast("NDArray[np.uint8]", mapped), self._device)
        return self._feeds[name]

    def _computed(self, split: str, view: int, dtype: str) -> NDArray[Any]:
        """Return features [N, ...] of a split in dataset order as a read-only memory map, computed if no trial did before."""
        part, augmentation = self._splits.part(split), self._augmentation if split == "train" else ("none", 1.0)
        with autocast(self._config.precision, self._device):
            found = cached_features(
                self.cut,
                lambda _: self._images(split, view, augmentation),
                images=len(part),
                data=json.dumps([self._source, split, view, *augmentation]),
                folder=self.folder,
                dtype=dtype,
            )
        _keep(Path(str(cast("np.memmap[Any, Any]", found).filename)), _budget(self.folder))
        plain: NDArray[Any] = found[0].view(np.ndarray)
        return plain

    def _images(self, split: str, view: int, augmentation: tuple[str, float]) -> Iterator[Tensor]:
        """Yield the network's input of a whole split; a view is the same for every trial that asks for it."""
        chunks = torch.split(torch.arange(len(self._splits.part(split))), self._config.eval_batch_size)
        images = self._stream(chunks) if split == "train" else (self._gather(self._splits.val, rows) for rows in chunks)
        name, magnitude = augmentation
        for batch, rows in zip(images, chunks, strict=True):
            index = rows.to(self._device)
            yield self._ready(augment_batch(batch, name=name, magnitude=magnitude, seed=0, epoch=view, sample_index=index))

    def _gather(self, part: ImageSet, rows: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(part.images[rows.numpy()])).to(self._device)

    def _live(self, features: Tensor) -> Tensor:
        features = features.to(parameter_dtype(self._config.precision))
        return features.contiguous(memory_format=memory_format(self._config)) if features.dim() == 4 else features


class _Answers(nn.Module):
    """Features -> what a served model answers for their images; of its modules only those that run are among its own."""

    def __init__(self, rest: nn.Module, served: InferenceModel) -> None:
        super().__init__()
        self.rest, self.answers = rest, served.answers

    def forward(self, features: Tensor) -> Tensor:
        return self.answers(self.rest(features))


def _folder(part: ImageSet) -> Path:
    """Return where features go: into the cache in which the decoded images lie, or else the user's."""
    images: Any = part.images
    while isinstance(images, np.ndarray):
        if isinstance(images, np.memmap) and images.filename:
            file = Path(str(images.filename))
            if file.name == IMAGES and (file.parent / FACTS).exists():
                return file.parents[1] / FOLDER
        images = images.base
    return cache_folder("") / FOLDER


def _budget(folder: Path) -> float:
    """Return how many bytes of features the folder may hold."""
    held = sum(_size(path) for path in folder.glob("features-*.npy"))
    return DISK_SHARE * (free_bytes(folder) + held)


def _keep(path: Path, budget: float) -> None:
    """Note that a file is in use, and remove the longest unused others beyond the budget (whoever maps one keeps reading)."""
    os.utime(path)
    files = sorted(path.parent.glob("features-*.npy"), key=_age)
    held = sum(map(_size, files))
    for old in files:
        if held > budget and old != path:
            held -= _size(old)
            old.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another trial has just removed it
        return 0


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
