"""Models by name: near matches, a seeded start that leaves the global generator alone, weights that fit or are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models as tv
from torch import nn

from trainables.config import TrainConfig
from trainables.models import MODELS, build_model, torchvision_models
from trainables.models.stages import last_layer


def _build(model: str = "cnn_a", *, outputs: int = 3, channels: int = 3, side: int = 8, **knobs: object) -> nn.Module:
    config = TrainConfig.from_dict({"model": model, "width": 4, "depth": 8, **knobs})
    return build_model(config, outputs=outputs, channels=channels, image_size=side)


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v2"])
def test_the_seed_alone_decides_the_start(name: str) -> None:
    torch.default_generator.manual_seed(1)
    first = _build(name, seed=5)
    after = torch.rand(3)
    torch.default_generator.manual_seed(1)
    assert torch.equal(torch.rand(3), after), "building a model moved the global generator"
    assert _same(first, _build(name, seed=5))
    assert not _same(first, _build(name, seed=6))


def test_weights_that_cannot_be_fetched_are_a_mistake_with_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(_: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision_models, "published_weights", offline)
    with pytest.raises(ValueError, match=r"train.weights: those of mobilenet_v2 .*not known.*\.safetensors file.*from scratch"):
        _build("mobilenet_v2", weights="default")


def test_an_unknown_name_gets_near_matches() -> None:
    with pytest.raises(ValueError, match="model: got 'resnet81'.*did you mean resnet18"):
        _build("resnet81")
    with pytest.raises(ValueError, match="own nets: cnn_a, cnn_b, cnn_c, cifar_resnet"):
        _build("???")


def test_timm_is_one_optional_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="timm:resnet10t needs timm; install it"):
        _build("timm:resnet10t")


@pytest.mark.parametrize("name", ["cnn_c", "cifar_resnet"])
def test_own_weights_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    trained = _build(name, seed=1)
    torch.save(trained.state_dict(), path)
    assert _same(_build(name, seed=2, weights=str(path)), trained)


def test_a_head_of_another_width_starts_fresh_and_the_rest_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    trained = _build("cifar_resnet", seed=1)
    torch.save(trained.state_dict(), path)
    loaded, fresh = (_build("cifar_resnet", outputs=5, seed=2, weights=w) for w in (str(path), "none"))
    head = f"{last_layer(loaded)}.weight"
    assert torch.equal(loaded.state_dict()[head], fresh.state_dict()[head])
    rest = [k for k in trained.state_dict() if not k.startswith("head")]
    assert all(torch.equal(loaded.state_dict()[k], trained.state_dict()[k]) for k in rest)


def test_torchvisions_own_file_fits_behind_our_dropout(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    with torch.random.fork_rng(devices=[]):
        published = tv.resnet18(weights=None)
    torch.save(published.state_dict(), path)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    same = _build("resnet18", outputs=1000, weights=str(path)).eval()
    torch.testing.assert_close(same(x), published.eval()(x))
    assert _build("resnet18", outputs=4, weights=str(path)).eval()(x).shape == (2, 4)


def test_colour_weights_make_a_colour_net_and_grey_ones_refuse_colour(tmp_path: Path) -> None:
    colour, grey = tmp_path / "c.pth", tmp_path / "g.pth"
    torch.save(_build(channels=3).state_dict(), colour)
    torch.save(_build(channels=1).state_dict(), grey)
    assert _build(channels=1, weights=str(colour)).get_submodule("block1.0").weight.shape[1] == 3
    with pytest.raises(ValueError, match="first layer takes 1 channel, the images have 3"):
        _build(channels=3, weights=str(grey))


def test_weights_that_are_not_published_are_refused() -> None:
    with pytest.raises(ValueError, match="weights: got 'default', allowed for cnn_a: none, or a"):
        _build("cnn_a", weights="default")
    with pytest.raises(ValueError, match="allowed: none, default, IMAGENET1K_V1"):
        _build("resnet18", weights="IMAGENET21K")


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V1"])
def test_published_weights_are_fetched_by_name(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        published = tv.mobilenet_v3_small(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: published)
    net = _build("mobilenet_v3_small", weights=weights)
    rest = {k: v for k, v in net.state_dict().items() if not k.startswith("classifier.3")}
    assert all(torch.equal(v, published[k]) for k, v in rest.items())
    assert net.get_parameter("classifier.3.weight").shape == (3, 1024)
