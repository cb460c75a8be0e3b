"""A trained model as one module from stored uint8 images to probabilities, with its input pipeline inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augment import to_float
from trainables.checkpoint import load_weights
from trainables.config import TrainConfig
from trainables.models import build_model
from trainables.runtime import parameter_dtype
from trainables.tta import View, averaged

if TYPE_CHECKING:
    from trainables.data.dataset import Splits
    from trainables.models import InputPipeline

SHIFT, SCALE = "target.shift", "target.scale"
"""Names under which a regression's weights carry the mean and spread of its training targets."""


def fit_size(images: Tensor, pipeline: InputPipeline) -> Tensor:
    """Return images [B, C, H, W] at the model's size: short side resized to size / crop_ratio, centre cropped.

    Images that already have the model's size pass through: whoever decoded them has resized and cropped.
    """
    size = pipeline.image_size
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    short = round(size / pipeline.crop_ratio)
    high, wide = (max(short, round(short * side / min(height, width))) for side in (height, width))
    if (high, wide) != (height, width):
        images = F.interpolate(images, size=(high, wide), mode=pipeline.interpolation, align_corners=False, antialias=True)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    return images[..., top : top + size, left : left + size]


def normalise(images: Tensor, pipeline: InputPipeline) -> Tensor:
    """Return (images - mean) / std per channel, grey images repeated where the statistics have three channels."""
    channels = len(pipeline.mean)
    if images.shape[1] != channels:
        images = images.expand(-1, channels, -1, -1)
    mean, std = (images.new_tensor(values).view(1, channels, 1, 1) for values in (pipeline.mean, pipeline.std))
    return (images - mean) / std


def prepare(images: Tensor, pipeline: InputPipeline) -> Tensor:
    """Return float images [B, C, H, W] in [0, 1] as the network takes them; the same for training and evaluation."""
    return normalise(fit_size(images, pipeline), pipeline)


class InferenceModel(nn.Module):
    """uint8 images [N, H, W, C] as stored -> probabilities [N, C] (regression: values [N, 1] in the targets' own units)."""

    def __init__(
        self, network: nn.Module, pipeline: InputPipeline, *, config: TrainConfig, shift: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.network, self.pipeline = network, pipeline
        self.task, self.tta = config.task, config.tta
        self.dtype = parameter_dtype(config.precision)
        self.shift, self.scale = shift, scale

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities or values, float32 unless the network is float64."""
        return averaged(self.predict, to_float(images, dtype=self.dtype), self.tta)

    def predict(self, images: Tensor) -> Tensor:
        """Return probabilities or values of one view, float images [N, C, H, W] in [0, 1]."""
        return self.answers(self.network(prepare(images, self.pipeline)))

    def answers(self, outputs: Tensor) -> Tensor:
        """Return probabilities or values for the network's outputs [N, C]."""
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        if self.task == "regression":
            return outputs * self.scale + self.shift
        return torch.softmax(outputs, dim=-1)


class OneView(nn.Module):
    """An inference model that sees its images through one view, whatever its own test-time augmentation."""

    def __init__(self, model: InferenceModel, view: View) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's probabilities or values of the view of uint8 images [N, H, W, C]."""
        return self.model.predict(self.view(to_float(images, dtype=self.model.dtype)))


def check_task(config: TrainConfig, splits: Splits) -> None:
    """Raise ValueError when the data and the task do not go together."""
    if (config.task == "regression") != (not splits.classes):
        what = f"{len(splits.classes)} classes" if splits.classes else "numbers as targets"
        raise ValueError(f"train.task: got {config.task!r} but the data has {what}; set data.task and train.task to the same")


def build_network(config: TrainConfig, pipeline: InputPipeline, *, outputs: int) -> nn.Module:
    """Build the bare network for images as `prepare` gives them: the pipeline's side and channels."""
    return build_model(config, outputs=outputs, channels=len(pipeline.mean), image_size=pipeline.image_size)


def split_target_scale(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float, float]:
    """Return (the network's own weights, shift, scale) of what `Trainable.weights` gave; 0 and 1 for classification."""
    network = {name: value for name, value in weights.items() if name not in (SHIFT, SCALE)}
    return network, float(weights.get(SHIFT, torch.zeros(()))), float(weights.get(SCALE, torch.ones(())))


def load_inference(
    config: TrainConfig, weights_path: Path | str, *, outputs: int, channels: int, pipeline: InputPipeline
) -> InferenceModel:
    """Rebuild a trained model in evaluation mode, float32, on the CPU, from the weights that `Trainable.weights` gave.

    `outputs` is the number of classes (1 for regression), `channels` that of the stored images. Whoever knows the file's
    SHA-256 checks it first. Raises RuntimeError (torch's) naming the weights that do not fit.
    """
    del channels  # grey images are repeated where the pipeline's statistics have three channels
    plain = config.replace(weights="none", precision="fp32", device="cpu", compile="off")
    network = build_network(plain, pipeline, outputs=outputs)
    weights, shift, scale = split_target_scale(load_weights(weights_path))
    network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in weights.items()})
    return InferenceModel(network, pipeline, config=plain, shift=shift, scale=scale).eval().requires_grad_(False)
