"""From stored images to probabilities: the same as the live model, whatever the sizes, and the same again in ONNX Runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from trainables.checkpoint import save_weights
from trainables.config import TrainConfig
from trainables.data import load_splits
from trainables.data.dataset import DataConfig, Splits
from trainables.image_model import ImageModel
from trainables.inference import InferenceModel, build_network, fit_size, load_inference, normalise, prepare
from trainables.models import InputPipeline

PIPELINE = InputPipeline(image_size=8, mean=(0.3,), std=(0.4,))


def images(n: int, side: int = 8, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, side, side, channels), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_splits(DataConfig())
    rows = np.arange(120)
    return dataclasses.replace(splits, train=splits.train.take(rows), val=splits.val.take(rows), test=splits.test.take(rows))


def reloaded(model: ImageModel, folder: Path) -> InferenceModel:
    save_weights(folder / "w.safetensors", model.weights())
    _, _, channels = model.splits.image_shape
    return load_inference(
        model.config, folder / "w.safetensors", outputs=model.splits.outputs, channels=channels, pipeline=model.pipeline
    )


@pytest.mark.parametrize(
    "values",
    [
        {"model": "cnn_c"},
        {"model": "cnn_b", "average": "ema", "image_size": 12},
        {"model": "cifar_resnet", "depth": 8, "width": 4, "precision": "fp64", "tta": "full"},
        {"model": "cnn_c", "precision": "bf16"},
    ],
    ids=["plain", "ema_resized", "resnet64_tta", "bf16"],
)
def test_reloaded_weights_predict_as_the_live_model_did(digits: Splits, tmp_path: Path, values: dict[str, object]) -> None:
    model = ImageModel(TrainConfig.from_dict({"epochs": 1, "width": 4, "device": "cpu", **values}), digits)
    model.step()
    module = reloaded(model, tmp_path)
    assert not any(m.training for m in module.modules())
    with torch.no_grad():
        found = module(torch.from_numpy(digits.test.images)).numpy()
    assert found.dtype == np.float32
    tolerance = 2e-2 if values.get("precision") == "bf16" else 1e-5  # bf16 members are served in float32
    np.testing.assert_allclose(found, model.predict("test"), atol=tolerance)


def test_regression_comes_back_in_its_units(digits: Splits, tmp_path: Path) -> None:
    def numbers(part: object) -> object:
        return dataclasses.replace(part, targets=500.0 + 7.0 * part.targets)  # type: ignore[attr-defined, type-var]

    splits = dataclasses.replace(
        digits, train=numbers(digits.train), val=numbers(digits.val), test=numbers(digits.test), classes=()
    )
    model = ImageModel(TrainConfig(task="regression", epochs=1, width=4, device="cpu"), splits)
    model.step()
    with torch.no_grad():
        found = reloaded(model, tmp_path)(torch.from_numpy(splits.test.images)).numpy()
    assert found.shape == (120, 1)
    np.testing.assert_allclose(found, model.predict("test"), rtol=1e-5)
    assert 400 < found.mean() < 700


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", {"block1.0.weight": torch.zeros(3)})
    with pytest.raises(RuntimeError, match=r"block1\.0\.weight"):
        load_inference(TrainConfig(width=4), tmp_path / "w.safetensors", outputs=10, channels=1, pipeline=PIPELINE)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (20, 50)])
def test_resize_and_crop_are_torchvisions(height: int, width: int, interpolation: str) -> None:
    pipeline = InputPipeline(28, (0.5,) * 3, (0.5,) * 3, crop_ratio=0.875, interpolation=interpolation)
    batch = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    theirs = v2.Compose([v2.Resize(32, v2.InterpolationMode(interpolation), antialias=True), v2.CenterCrop(28)])
    found = fit_size(batch, pipeline)
    assert found.shape == (2, 3, 28, 28)
    torch.testing.assert_close(found, theirs(batch), atol=1e-5, rtol=0)


def test_images_of_the_right_size_are_not_touched() -> None:
    batch = torch.rand(2, 3, 28, 28)
    assert fit_size(batch, InputPipeline(28, (0.5,) * 3, (0.5,) * 3, crop_ratio=0.875)) is batch


def test_normalisation_and_grey_images_for_colour_weights() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    batch = torch.rand(2, 3, 4, 4)
    pipeline = InputPipeline(4, mean, std)
    torch.testing.assert_close(normalise(batch, pipeline), v2.Normalize(mean, std)(batch))
    grey = batch[:, :1]
    torch.testing.assert_close(prepare(grey, pipeline), v2.Normalize(mean, std)(grey.repeat(1, 3, 1, 1)))


def test_tta_is_part_of_the_module() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    plain = InferenceModel(network, PIPELINE, config=TrainConfig())
    flipped = InferenceModel(network, PIPELINE, config=TrainConfig(tta="flip"))
    batch = images(5)
    with torch.no_grad():
        expected = (plain(batch) + plain(batch.flip(2))) / 2
        torch.testing.assert_close(flipped(batch), expected)


def exported(module: nn.Module, example: torch.Tensor, path: Path) -> object:
    import onnxruntime

    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.onnx.export(
        module, (example,), str(path), dynamo=True, dynamic_shapes={"images": {0: batch}}, input_names=["images"], verbose=False
    )
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def agrees(module: nn.Module, path: Path, *, side: int, channels: int) -> None:
    session = exported(module, images(2, side, channels), path)
    for n in (1, 7):
        batch = images(n, side, channels)
        (found,) = session.run(None, {"images": batch.numpy()})  # type: ignore[attr-defined]
        with torch.no_grad():
            np.testing.assert_allclose(found, module(batch).numpy(), atol=1e-4)


IGNORED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def module_of(config: TrainConfig, pipeline: InputPipeline) -> InferenceModel:
    network = build_network(config, pipeline, outputs=10)
    return InferenceModel(network, pipeline, config=config).eval()


@IGNORED
def test_the_module_exports_to_onnx_with_any_batch(tmp_path: Path) -> None:
    agrees(module_of(TrainConfig(model="cnn_c", width=4), PIPELINE), tmp_path / "m.onnx", side=8, channels=1)


@pytest.mark.slow
@IGNORED
@pytest.mark.parametrize(
    ("config", "side", "channels", "pipeline"),
    [
        (TrainConfig(model="cifar_resnet", depth=8, width=4), 8, 1, PIPELINE),
        (TrainConfig(model="cifar_resnet", depth=8, width=4, tta="full"), 16, 1, dataclasses.replace(PIPELINE, image_size=16)),
        (
            TrainConfig(model="cifar_resnet", depth=8, width=4),
            40,
            1,
            InputPipeline(28, (0.5,) * 3, (0.5,) * 3, crop_ratio=0.875),
        ),
        (
            TrainConfig(model="cifar_resnet", depth=8, width=4),
            40,
            3,
            InputPipeline(28, (0.5,) * 3, (0.5,) * 3, crop_ratio=0.875, interpolation="bicubic"),
        ),
    ],
    ids=["resnet", "resnet_tta", "grey_resized", "bicubic"],
)
def test_every_kind_of_member_exports(
    config: TrainConfig, side: int, channels: int, pipeline: InputPipeline, tmp_path: Path
) -> None:
    agrees(module_of(config, pipeline), tmp_path / "m.onnx", side=side, channels=channels)
