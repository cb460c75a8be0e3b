"""Stages run from input to head, hold every parameter once, and follow the resolution where the net has one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.keyed_dropout import use_keyed_dropout
from trainables.models import build_model
from trainables.models.stages import first_layer, last_layer, replace_module, stages

COUNTS = {
    "cnn_b": ["block1", "block2", "block3", "head"],
    "cifar_resnet": ["stem", "stage1", "stage2", "stage3", "head"],
    "resnet18": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "mobilenet_v2": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "squeezenet1_1": ["stem", "stage1", "stage2", "stage3", "head"],
    "densenet121": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "vgg11_bn": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "convnext_tiny": ["stem", "stage1", "stage2", "stage3", "head"],
    "regnet_x_400mf": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
    "vit_b_32": ["stem", *(f"stage{i}" for i in range(1, 13)), "head"],
}


def _meta(model: str) -> nn.Module:
    with torch.device("cpu" if model.startswith("regnet") else "meta"):  # RegNets compute their widths with tensors
        return build_model(TrainConfig(model=model, width=4, depth=8), outputs=3, channels=3, image_size=32)


@pytest.mark.parametrize("model", COUNTS)
def test_names_in_order_and_each_parameter_once(model: str) -> None:
    net = _meta(model)
    found = stages(net)
    assert [stage.name for stage in found] == COUNTS[model]
    assert sorted(id(p) for s in found for p in s.parameters()) == sorted(id(p) for p in net.parameters())
    assert all(any(True for _ in stage.parameters()) for stage in found)


def test_resnet_stages_are_its_layers() -> None:
    net = _meta("resnet18")
    found = {stage.name: set(stage.parameters()) for stage in stages(net)}
    assert found["stem"] == {*net.get_submodule("conv1").parameters(), *net.get_submodule("bn1").parameters()}
    for i in range(1, 5):
        assert found[f"stage{i}"] == set(net.get_submodule(f"layer{i}").parameters())
    assert found["head"] == set(net.get_submodule("fc").parameters())


def test_a_transformers_loose_parameters_belong_to_its_stem_and_the_last_norm_to_its_last_layer() -> None:
    net = _meta("vit_b_32")
    found = stages(net)
    assert {id(p) for p in found[0].loose} == {id(net.get_parameter(n)) for n in ("class_token", "encoder.pos_embedding")}
    assert net.get_submodule("encoder.ln") in found[-2].modules


def test_a_strangers_net_is_read_by_its_modules() -> None:
    conv, pool = nn.Conv2d, nn.MaxPool2d
    net = nn.Sequential()
    net.body = nn.Sequential(conv(1, 2, 3), pool(2), conv(2, 2, 3), conv(2, 2, 3, stride=2), nn.ReLU())
    net.drop, net.out = nn.Dropout(), nn.Linear(2, 3)
    found = stages(net)
    assert [(s.name, len(s.modules)) for s in found] == [("stem", 1), ("stage1", 2), ("stage2", 2), ("head", 2)]


def test_a_dropout_of_another_kind_before_the_logits_stays_with_the_head() -> None:
    net = use_keyed_dropout(_meta("googlenet"))
    assert [type(module).__name__ for module in stages(net)[-1].modules] == ["KeyedDropout", "Linear"]


def test_both_ends_are_found_and_replaced() -> None:
    net = _meta("resnet18")
    assert (first_layer(net), last_layer(net)) == ("conv1", "fc.1")
    replace_module(net, "fc.1", nn.Identity())
    assert isinstance(net.get_submodule("fc.1"), nn.Identity)
    with pytest.raises(ValueError, match="no Linear or Conv2d"):
        last_layer(nn.ReLU())
