"""The bundle's own decoder against the training data's, and the bundle run where nothing of this project exists."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from orchestrator.deliver.runtime import ImageError, Runtime, decode, from_base64
from trainables.data.decode import decode_image

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(*shape: int, dtype: type = np.uint8, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def zoo() -> dict[str, bytes]:
    photo = Image.fromarray(noise(40, 61, 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "rgb": encoded(photo),
        "exact": encoded(photo.resize((24, 24))),
        "grey": encoded(photo.convert("L")),
        "alpha": encoded(Image.fromarray(noise(40, 30, 4))),
        "grey_alpha": encoded(photo.convert("LA")),
        "palette": encoded(photo.convert("P")),
        "bilevel": encoded(photo.convert("1")),
        "deep": encoded(Image.fromarray(noise(40, 30, dtype=np.uint16, high=65536))),
        "cmyk": encoded(photo.convert("CMYK"), "JPEG"),
        "turned": encoded(photo, "JPEG", exif=turned.tobytes()),
        "large_jpeg": encoded(Image.fromarray(noise(400, 300, 3)), "JPEG"),
        "gif": encoded(photo.convert("P"), "GIF"),
        "tall": encoded(Image.fromarray(noise(200, 3, 3))),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(zoo()))
def test_decodes_as_the_training_data_does(name: str, channels: int) -> None:
    content = zoo()[name]
    expected = decode_image(content, image_size=24, channels=channels, max_pixels=10**6)
    found = decode(content, height=24, width=24, channels=channels, max_pixels=10**6)
    assert np.array_equal(found, expected) and found.shape == (24, 24, channels)


def test_images_that_are_not_square_are_covered_and_cropped() -> None:
    found = decode(zoo()["rgb"], height=10, width=20, channels=3, max_pixels=10**6)
    assert found.shape == (10, 20, 3)
    exact = noise(10, 20, 3)
    assert np.array_equal(decode(encoded(Image.fromarray(exact)), height=10, width=20, channels=3, max_pixels=10**6), exact)


@pytest.mark.parametrize("cut", [0, 8, 60, -40])
def test_cut_off_and_foreign_content_is_an_image_error(cut: int) -> None:
    with pytest.raises(ImageError, match="not a readable image"):
        decode(zoo()["rgb"][:cut], height=8, width=8, channels=3, max_pixels=10**6)


def test_bombs_and_missing_files_are_image_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="61 x 40 pixels, allowed: 100"):
        decode(zoo()["rgb"], height=8, width=8, channels=3, max_pixels=100)
    with pytest.raises(ImageError, match="file is missing"):
        decode(tmp_path / "none.png", height=8, width=8, channels=3, max_pixels=100)


def test_base64_is_strict() -> None:
    assert from_base64("aGk=") == b"hi"
    with pytest.raises(ImageError, match="not base64"):
        from_base64("not*base64")


def test_answers_keep_their_places_among_bad_ones(world: World) -> None:
    images = world.splits.test.images
    sources = [encoded(Image.fromarray(images[0])), b"junk", encoded(Image.fromarray(images[1]))]
    runtime = Runtime(world.bundle)
    first, bad, second = runtime.answers(sources)
    expected = runtime.probabilities(images[:2])
    assert bad == {"error": "not a readable image (UnidentifiedImageError)"}
    for answer, row in zip((first, second), expected, strict=True):
        assert list(answer["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-6)
        assert answer["class"] == runtime.classes[row.argmax()] and answer["probability"] == pytest.approx(row.max(), abs=1e-6)


BARE = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "mlflow", "orchestrator", "trainables", "onnx", "pandas")))
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_runs_alone_with_nothing_of_this_project(copy: Path, tmp_path: Path, world: World) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(world.splits.test.images[0]).save(good)
    bad.write_bytes(b"junk")
    command = [sys.executable, "-c", BARE, str(copy / "runtime.py"), str(good), str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=200)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and rows[1]["error"].startswith("not a readable"), done.stderr
    expected = Runtime(world.bundle).probabilities(world.splits.test.images[:1])[0]
    assert list(rows[0]["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    Runtime(copy)  # running it left nothing behind
