"""The input pipeline comes with the weights; a size they cannot take is refused, a tolerable one is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as tv
from safetensors.torch import save_file

from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.models.pipeline import IMAGENET_MEAN, IMAGENET_STD, InputPipeline, input_pipeline

OWN_MEAN, OWN_STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def _splits(side: int | tuple[int, int], channels: int = 3) -> Splits:
    shape = (side, side) if isinstance(side, int) else side
    part = ImageSet(np.zeros((1, *shape, channels), np.uint8), np.zeros(1, np.int64), ("a",))
    return Splits(part, part, part, ("x", "y"), "f" * 12, OWN_MEAN[:channels], OWN_STD[:channels])


def test_a_net_without_weights_takes_the_data_as_it_is() -> None:
    assert input_pipeline(TrainConfig(model="cnn_c"), _splits(28)) == InputPipeline(28, OWN_MEAN, OWN_STD)
    assert input_pipeline(TrainConfig(model="resnet18", image_size=64), _splits(28, 1)) == InputPipeline(64, (0.1,), (0.4,))


def test_oblong_images_are_cropped_and_that_is_said() -> None:
    pipeline = input_pipeline(TrainConfig(model="cnn_a"), _splits((20, 30)))
    assert pipeline.image_size == 20
    assert "30 x 20" in pipeline.notices[0]


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    splits = _splits(8)
    object.__setattr__(splits, "std", (0.0, 0.5, 0.6))
    assert input_pipeline(TrainConfig(model="cnn_a"), splits).std == (1.0, 0.5, 0.6)


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_pretrained_takes_imagenet_statistics_whatever_the_data_has(weights: str) -> None:
    pipeline = input_pipeline(TrainConfig(model="resnet18", weights=weights), _splits(256))
    assert pipeline == InputPipeline(224, IMAGENET_MEAN, IMAGENET_STD, crop_ratio=224 / 256)
    assert pipeline.notices == ()


def test_the_weights_centre_crop_never_throws_away_pixels_of_smaller_images() -> None:
    config = TrainConfig(model="resnet18", weights="default")
    assert input_pipeline(config, _splits(255)).crop_ratio == 1.0
    assert input_pipeline(config, _splits(256)).crop_ratio == 0.875


def test_interpolation_and_statistics_of_other_families() -> None:
    bicubic = input_pipeline(TrainConfig(model="efficientnet_b0", weights="default"), _splits(300))
    assert bicubic.interpolation == "bicubic"
    halves = input_pipeline(TrainConfig(model="googlenet", weights="default"), _splits(300))
    assert halves.mean == halves.std == (0.5, 0.5, 0.5)


def test_the_inception_statistics_are_torchvisions_transform_input() -> None:
    """torchvision re-normalises ImageNet-normalised images inside the net; (x - .5) / .5 from the start is the same."""
    net = tv.googlenet(weights=None, num_classes=2, aux_logits=False, init_weights=False, transform_input=True)
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(net._transform_input((images - mean) / std), (images - 0.5) / 0.5)


def test_another_size_is_a_notice_for_a_convnet_and_an_error_for_a_transformer() -> None:
    pipeline = input_pipeline(TrainConfig(model="resnet18", weights="default", image_size=96), _splits(96))
    assert pipeline.image_size == 96
    assert "trained at 224" in pipeline.notices[0]
    with pytest.raises(ValueError, match=r"image_size: got 96, but vit_b_32 .* takes 224 only"):
        input_pipeline(TrainConfig(model="vit_b_32", weights="default", image_size=96), _splits(96))


def test_a_size_too_small_for_the_family_is_refused() -> None:
    with pytest.raises(ValueError, match="vgg11 takes 32 px or more, it would see 28"):
        input_pipeline(TrainConfig(model="vgg11"), _splits(28))


def test_grey_images_are_repeated_for_colour_weights() -> None:
    pipeline = input_pipeline(TrainConfig(model="resnet18", weights="default"), _splits(28, 1))
    assert pipeline.channels == 3
    assert any("grey" in notice for notice in pipeline.notices)


def test_unknown_weights_name_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'V9' for resnet18, allowed: none, default, IMAGENET1K_V1"):
        input_pipeline(TrainConfig(model="resnet18", weights="V9"), _splits(224))


def test_a_files_own_pipeline_wins(tmp_path: Path) -> None:
    carried = InputPipeline(40, (0.5,), (0.25,), crop_ratio=0.9, interpolation="bicubic")
    path = tmp_path / "earlier.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"pipeline": json.dumps(carried.to_dict())})
    assert input_pipeline(TrainConfig(model="resnet18", weights=str(path)), _splits(50, 1)) == carried
    with pytest.raises(ValueError, match="takes grey images, the data has 3 channels"):
        input_pipeline(TrainConfig(model="resnet18", weights=str(path)), _splits(50, 3))


def test_a_silent_file_means_imagenet_for_published_nets_and_own_statistics_for_own_nets(tmp_path: Path) -> None:
    path = str(tmp_path / "w.pth")
    torch.save({"w": torch.zeros(1)}, path)
    assert input_pipeline(TrainConfig(model="resnet50", weights=path), _splits(300)).crop_ratio == 224 / 256
    own = input_pipeline(TrainConfig(model="cnn_b", weights=path), _splits(32))
    assert (own.image_size, own.mean) == (32, OWN_MEAN)
    assert "does not say" in own.notices[0]
