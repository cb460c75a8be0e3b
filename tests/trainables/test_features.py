"""Cached features give the uncached model's logits and gradients, and are computed anew when anything they hang on changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.config import TrainConfig
from trainables.features import Cut, cached_features, cut_model, feature_key
from trainables.models import apply_depth, build_model

NETS = ["cnn_c", "cifar_resnet", "resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5"]


def _config(model: str = "cifar_resnet", **knobs: object) -> TrainConfig:
    known = {"model": model, "width": 4, "depth": 8, "dropout": 0.0, "finetune_depth": "head"}
    return TrainConfig.from_dict({**known, **knobs})


def _model(config: TrainConfig, side: int = 32) -> nn.Module:
    net = build_model(config, outputs=3, channels=3, image_size=side)
    apply_depth(net, config)
    return net.train()


def _images(count: int = 6, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _batches(images: Tensor) -> Iterable[Tensor]:
    return images.split(4)


@pytest.mark.parametrize("depth", ["head", "last_1", "last_2"])
@pytest.mark.parametrize("model", NETS)
def test_cached_equals_uncached_in_fp32(model: str, depth: str, tmp_path: Path) -> None:
    config = _config(model, finetune_depth=depth, bn="frozen")
    net, images = _model(config), _images()
    cut = cut_model(net, config)
    cached = cached_features(cut, lambda _: _batches(images), images=6, data="d", folder=tmp_path, dtype="float32")
    torch.testing.assert_close(cut.rest(torch.from_numpy(cached[0].copy())), net(images), atol=1e-5, rtol=1e-5)


def test_a_training_step_on_cached_features_is_the_uncached_step(tmp_path: Path) -> None:
    """Also where BatchNorm of the trainable part uses and moves its batch statistics."""
    config, images = _config(finetune_depth="last_1"), _images()
    live, other = _model(config), _model(config)
    cut = cut_model(other, config)
    cached = cached_features(cut, lambda _: _batches(images), images=6, data="d", folder=tmp_path, dtype="float32")
    live(images).square().sum().backward()
    cut.rest(torch.from_numpy(cached[0].copy())).square().sum().backward()
    for a, b in zip(live.parameters(), other.parameters(), strict=True):
        assert (a.grad is None) is (b.grad is None)
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    for x, y in zip(live.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_the_head_cut_caches_pooled_vectors_and_keeps_parameter_names(tmp_path: Path) -> None:
    config = _config("resnet18")
    net = _model(config)
    cut = cut_model(net, config)
    cached = cached_features(cut, lambda _: _batches(_images()), images=6, data="d", folder=tmp_path)
    assert (cached.shape, cached.dtype) == ((1, 6, 512), np.float16)
    assert list(cut.rest.state_dict()) == ["fc.1.weight", "fc.1.bias"]
    assert cut.rest.get_parameter("fc.1.weight") is net.get_parameter("fc.1.weight")
    assert cut.stage == "head"


def test_a_transformer_can_be_cut_between_its_layers() -> None:
    config = _config("vit_b_32", finetune_depth="last_1")
    with torch.device("meta"):
        net = build_model(config, outputs=3, channels=3, image_size=64)
        cut = cut_model(net, config)
        assert cut.prefix(torch.zeros(2, 3, 64, 64)).shape == (2, 5, 768)
        assert cut.rest(torch.zeros(2, 5, 768)).shape == (2, 3)


def test_fp16_is_close_and_overflow_is_refused(tmp_path: Path) -> None:
    config, images = _config(), _images()
    net = _model(config).eval()
    cut = cut_model(net, config)
    cached = cached_features(cut, lambda _: _batches(images), images=6, data="d", folder=tmp_path)
    torch.testing.assert_close(cut.rest(torch.from_numpy(cached[0].astype(np.float32))), net(images), atol=1e-2, rtol=1e-2)
    with pytest.raises(ValueError, match="not finite in float16"):
        cached_features(cut, lambda _: _batches(images * 1e6), images=6, data="e", folder=tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_views_are_kept_apart_and_a_second_trial_computes_nothing(tmp_path: Path) -> None:
    config, images = _config(), _images()
    cut = cut_model(_model(config), config)
    calls: list[int] = []

    def batches(view: int) -> Iterable[Tensor]:
        calls.append(view)
        return _batches(images.flip(3) if view else images)

    first = cached_features(cut, batches, images=6, data="d", folder=tmp_path, views=2)
    again = cached_features(cut, batches, images=6, data="d", folder=tmp_path, views=2)
    assert calls == [0, 1]
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not first.flags.writeable


def _key(cut: Cut, *, data: str = "d", views: int = 1, dtype: str = "float16") -> str:
    return feature_key(cut, data=data, views=views, dtype=dtype)


def test_the_key_hangs_on_weights_buffers_cut_data_views_and_dtype() -> None:
    config = _config()
    cut = cut_model(_model(config), config)
    same = _key(cut_model(_model(config), config))
    keys = [_key(cut), _key(cut, data="e"), _key(cut, views=2), _key(cut, dtype="float32")]
    keys.append(_key(cut_model(_model(config), config.replace(finetune_depth="last_1"))))
    keys.append(_key(cut_model(_model(config.replace(seed=1)), config)))
    moved = _model(config)
    moved.get_buffer("stem.1.running_mean").add_(1)
    keys.append(_key(cut_model(moved, config)))
    assert keys[0] == same
    assert len(set(keys)) == len(keys)
    head = _model(config)
    nn.init.zeros_(head.get_parameter("head.1.weight"))
    assert _key(cut_model(head, config)) == same, "the trainable rest does not belong to the key"


def test_what_cannot_be_cached_says_why(tmp_path: Path) -> None:
    config = _config(finetune_depth="all")
    with pytest.raises(ValueError, match="'all' freezes no stage of cifar_resnet"):
        cut_model(_model(config), config)
    head = _config()
    cut = cut_model(_model(head), head)
    with pytest.raises(ValueError, match="view 0 gave 6 images, expected 7"):
        cached_features(cut, lambda _: _batches(_images()), images=7, data="d", folder=tmp_path)
    with pytest.raises(ValueError, match="dtype 'int8', allowed: float16, float32"):
        cached_features(cut, lambda _: _batches(_images()), images=6, data="d", folder=tmp_path, dtype="int8")
