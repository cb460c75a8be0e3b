"""timm backbones behave as every other family: head, channels, dropout, stochastic depth, stages and pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.data.dataset import ImageSet, Splits
from trainables.models import build_model, input_pipeline, stages

pytest.importorskip("timm", reason="timm is an optional dependency")


def _build(model: str, *, channels: int = 3, side: int = 0, **knobs: object) -> nn.Module:
    config = TrainConfig.from_dict({"model": f"timm:{model}", **knobs})
    return build_model(config, outputs=4, channels=channels, image_size=side)


@pytest.mark.parametrize("model", ["resnet10t", "mobilenetv3_small_050", "test_vit", "test_convnext"])
def test_shapes_stages_and_dropout(model: str) -> None:
    net = _build(model, channels=1, side=64, dropout=0.35).eval()
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 4)
    found = stages(net)
    assert found[-1].name == "head"
    assert len(found) >= 3
    assert sorted(id(p) for s in found for p in s.parameters()) == sorted(id(p) for p in net.parameters())
    assert 0.35 in [m.p for top in found[-1].modules for m in top.modules() if isinstance(m, nn.Dropout)]


def test_drop_path_reaches_the_blocks() -> None:
    rates = [m.drop_prob for m in _build("test_convnext", drop_path=0.4).modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.4)
    assert not [m for m in _build("test_convnext").modules() if type(m).__name__ == "DropPath"]


def test_the_pipeline_is_the_weights_own_and_a_transformers_size_is_fixed() -> None:
    part = ImageSet(np.zeros((1, 300, 300, 3), np.uint8), np.zeros(1, np.int64), ("a",))
    splits = Splits(part, part, part, ("x", "y"), "f" * 12, (0.1,) * 3, (0.2,) * 3)
    pipeline = input_pipeline(TrainConfig(model="timm:resnet10t", weights="default"), splits)
    assert (pipeline.image_size, pipeline.crop_ratio, pipeline.mean) == (176, 0.875, (0.485, 0.456, 0.406))
    with pytest.raises(ValueError, match="got 96, but timm:vit_tiny_patch16_224 .* takes 224 only"):
        input_pipeline(TrainConfig(model="timm:vit_tiny_patch16_224", weights="default", image_size=96), splits)


def test_unknown_names_and_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="timm has no model 'resnet10x'; nearest: .*resnet10t"):
        _build("resnet10x")
    with pytest.raises(ValueError, match="got 'V1', allowed for timm:resnet10t: none, default, or a"):
        _build("resnet10t", weights="V1")
