"""torchvision nets get a head for the outputs, a first layer for the channels, and the dropout and stochastic-depth knobs."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torchvision.ops import StochasticDepth

from trainables.config import TrainConfig
from trainables.models import build_model
from trainables.models.stages import first_layer, last_layer, stages
from trainables.models.torchvision_models import names, smallest_size


def _build(model: str, *, outputs: int = 4, channels: int = 3, side: int = 0, **knobs: object) -> nn.Module:
    return build_model(TrainConfig.from_dict({"model": model, **knobs}), outputs=outputs, channels=channels, image_size=side)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_dropout(model: str, channels: int) -> None:
    net = _build(model, channels=channels, dropout=0.35).eval()
    assert net(torch.zeros(2, channels, 32, 32)).shape == (2, 4)
    head = [m for top in stages(net)[-1].modules for m in top.modules()]
    assert [m.p for m in head if isinstance(m, nn.Dropout)] == [0.35]
    assert type(head[-1]) is not nn.Dropout, "dropout after the logits"


def test_the_grey_first_layer_keeps_its_geometry() -> None:
    grey, colour = (_build("resnet18", channels=c).get_submodule("conv1") for c in (1, 3))
    assert isinstance(grey, nn.Conv2d)
    assert isinstance(colour, nn.Conv2d)
    assert (grey.stride, grey.padding, grey.kernel_size, grey.bias) == (colour.stride, colour.padding, colour.kernel_size, None)
    assert grey.weight.std().item() == pytest.approx(colour.weight.std().item(), rel=0.1)


def test_the_resnet_for_small_images_is_the_known_one() -> None:
    net = _build("cifar_resnet18", outputs=10).eval()
    assert sum(p.numel() for p in net.parameters()) == 11_173_962  # kuangliu/pytorch-cifar's ResNet-18
    sides = []
    net.get_submodule("layer1").register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[-1]))
    net.get_submodule("layer4").register_forward_hook(lambda _, __, out: sides.append(out.shape[-1]))
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sides == [32, 4]
    assert [stage.name for stage in stages(net)] == ["stem", "stage1", "stage2", "stage3", "head"]


def test_drop_path_grows_where_the_family_has_it_and_is_nothing_elsewhere() -> None:
    net = _build("efficientnet_b0", drop_path=0.3)
    rates = [m.p for m in net.modules() if isinstance(m, StochasticDepth)]
    assert (rates[0], rates[-1]) == (0.0, 0.3)
    assert rates == sorted(rates)
    assert not [m for m in _build("resnet18", drop_path=0.3).modules() if isinstance(m, StochasticDepth)]


def test_a_transformer_is_built_for_the_side_and_refuses_one_its_patches_do_not_divide() -> None:
    with torch.device("meta"):
        assert _build("vit_b_32", side=64).get_parameter("encoder.pos_embedding").shape == (1, 5, 768)
    with pytest.raises(ValueError, match="vit_b_32 cannot take 65 px"):
        _build("vit_b_32", side=65)


@pytest.mark.slow
@pytest.mark.parametrize("model", [n for n in names() if not n.startswith("regnet") or "00mf" in n])
def test_every_net_builds_splits_into_stages_and_finds_both_ends(model: str) -> None:
    with torch.device("cpu" if model.startswith("regnet") else "meta"):
        net = _build(model, outputs=7, side=64 if model.startswith("vit_b") else 0)
    found = stages(net)
    assert len(found) >= 4 or model == "alexnet"
    assert sorted(id(p) for s in found for p in s.parameters()) == sorted(id(p) for p in net.parameters())
    last = net.get_submodule(last_layer(net))
    assert 7 in (getattr(last, "out_features", 0), getattr(last, "out_channels", 0))
    assert net.get_submodule(first_layer(net)).in_channels == 3
    assert smallest_size(model) <= 224


@pytest.mark.slow
def test_the_real_mobilenet_weights_fit_and_see_ants_as_ants(data_root: object) -> None:
    from pathlib import Path

    from PIL import Image
    from torchvision.transforms import functional as tf

    root = Path(str(data_root))
    weights = root / "weights" / "mobilenet_v2-imagenet-from-int8.pth"
    net = _build("mobilenet_v2", outputs=1000, weights=str(weights)).eval()
    raw = tv.mobilenet_v2(weights=None)
    raw.load_state_dict(torch.load(weights, weights_only=True))
    files = sorted((root / "hymenoptera_data" / "val" / "ants").glob("*.jpg"))[:16]
    views = [tf.center_crop(tf.resize(tf.to_tensor(Image.open(f).convert("RGB")), [256], antialias=True), [224]) for f in files]
    batch = tf.normalize(torch.stack(views), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = net(batch)
        torch.testing.assert_close(logits, raw.eval()(batch))
    assert (logits.argmax(1) == 310).float().mean() > 0.5
