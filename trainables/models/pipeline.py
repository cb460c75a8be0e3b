"""How images must look before a network sees them: its size, crop, statistics and channels, which come with the weights.

Grey images meet pretrained colour backbones by repetition: the pipeline then has three channels of statistics, and the one grey
plane stands for each. That keeps every pretrained filter as it was; a net without weights gets a first layer for grey instead.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import TrainConfig
from trainables.data.dataset import Splits
from trainables.models import timm_models, torchvision_models, weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputPipeline:
    """The network's side, the share of the resized image that the centre crop keeps, and per-channel statistics in [0, 1]."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_ratio: float = 1.0
    """The short side is resized to image_size / crop_ratio, then the centre is cropped."""
    interpolation: str = "bilinear"
    """"bilinear" or "bicubic", antialiased."""
    notices: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """What the user should know about this choice."""

    @property
    def channels(self) -> int:
        """Return how many channels the network sees."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready facts, without the notices."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "notices"}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> InputPipeline:
        """Rebuild what `to_dict` gave."""
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
        return cls(**values)


def member_pipeline(config: TrainConfig, splits: Splits, kept: Path) -> InputPipeline:
    """Return the pipeline that a member's kept weights carry, else that of its config (whose weights file may be gone)."""
    carried = weights.read_pipeline(str(kept)) if kept.is_file() else None
    return InputPipeline.from_dict(carried) if carried is not None else input_pipeline(config, splits)


def input_pipeline(config: TrainConfig, splits: Splits) -> InputPipeline:
    """Return the pipeline of the weights, or for a net without weights that of the data (own size and statistics).

    Raises:
        ValueError: A size that the weights or the family cannot take, or colour images for weights of grey ones.
    """
    own = _of_data(config, splits)
    if config.weights == "none":
        _check_smallest(config, own.image_size)
        return own
    published = _of_weights(config, own)
    size = config.image_size or published.image_size
    notices = list(published.notices)
    if size != published.image_size:
        if _fixed_size(config.model):
            raise ValueError(
                f"train.image_size: got {size}, but {config.model} with weights {config.weights!r} takes "
                f"{published.image_size} only; leave image_size at 0"
            )
        notices.append(f"{config.model} sees {size} px, its weights were trained at {published.image_size} px")
    _check_smallest(config, size)
    channels = splits.image_shape[2]
    if channels > published.channels:
        raise ValueError(
            f"train.weights: {config.weights} takes grey images, the data has {channels} channels; set data.channels to 1"
        )
    if channels < published.channels:
        notices.append("grey images are repeated in the three channels that the weights expect")
    ratio = _crop_ratio(published, size, min(splits.image_shape[:2]))
    return dataclasses.replace(published, image_size=size, crop_ratio=ratio, notices=tuple(notices))


def _of_data(config: TrainConfig, splits: Splits) -> InputPipeline:
    height, width, _ = splits.image_shape
    notices = () if height == width else (f"images of {width} x {height} px are cropped to their centre square",)
    std = tuple(value or 1.0 for value in splits.std)
    return InputPipeline(config.image_size or min(height, width), splits.mean, std, notices=notices)


def _of_weights(config: TrainConfig, own: InputPipeline) -> InputPipeline:
    carried = weights.read_pipeline(config.weights) if weights.is_file(config.weights) else None
    if carried is not None:
        return InputPipeline.from_dict(carried)
    if config.model.startswith(timm_models.PREFIX):
        return InputPipeline.from_dict(timm_models.pipeline_facts(config.model))
    if torchvision_models.has(config.model):
        return InputPipeline.from_dict(torchvision_models.pipeline_facts(config))
    notice = f"{config.weights} does not say how its images were normalised: this data's statistics are used"
    return dataclasses.replace(own, notices=(*own.notices, notice))


def _crop_ratio(published: InputPipeline, size: int, stored: int) -> float:
    """Keep the weights' centre crop for images stored large enough for it; of smaller ones no pixel is thrown away."""
    return published.crop_ratio if stored >= round(size / published.crop_ratio) else 1.0


def _fixed_size(model: str) -> bool:
    if model.startswith(timm_models.PREFIX):
        return timm_models.fixed_size(model)
    return model.startswith(torchvision_models.FIXED_SIZE)


def _check_smallest(config: TrainConfig, size: int) -> None:
    if torchvision_models.has(config.model):
        smallest = torchvision_models.smallest_size(config.model)
        if size < smallest:
            raise ValueError(
                f"train.image_size: {config.model} takes {smallest} px or more, it would see {size}; set image_size: {smallest}"
            )
