"""Every kind of file becomes the uint8 image a person sees, or a reason why not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from trainables.data.decode import BadImage, decode_image, inspect_image

Picture = Callable[..., Any]


def decode(source: Path | bytes, image_size: int = 0, channels: int = 0) -> Any:
    return decode_image(source, image_size=image_size, channels=channels, max_pixels=10_000)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_colour_and_grey_keep_their_pixels(picture: Picture, tmp_path: Path) -> None:
    colour, grey = picture(1), picture(2, channels=1)
    assert np.array_equal(decode(encoded(Image.fromarray(colour))), colour)
    assert np.array_equal(decode(encoded(Image.fromarray(grey)))[..., 0], grey)
    Image.fromarray(colour).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), colour)


def test_channels_are_forced(picture: Picture) -> None:
    grey = picture(2, channels=1)
    assert np.array_equal(decode(encoded(Image.fromarray(grey)), channels=3), np.repeat(grey[..., None], 3, axis=2))
    assert decode(encoded(Image.fromarray(picture(1))), channels=1).shape == (12, 12, 1)


def test_exif_rotation_is_applied(picture: Picture) -> None:
    pixels = picture(3, height=8, width=16)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    content = encoded(Image.fromarray(pixels), exif=exif)
    assert np.array_equal(decode(content), np.rot90(pixels, k=-1))
    assert inspect_image(content, max_pixels=10_000) == (16, 8, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert decode(encoded(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_palette_transparency_bilevel_and_cmyk() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert decode(encoded(red.convert("P"), "GIF")).tolist() == np.full((4, 4, 3), [255, 0, 0]).tolist()
    assert decode(encoded(red.convert("P"), transparency=b"\x80" * 256))[0, 0].tolist() == [255, 0, 0]
    assert decode(encoded(Image.new("RGBA", (4, 4), (1, 2, 3, 9))))[0, 0].tolist() == [1, 2, 3]
    assert decode(encoded(Image.new("1", (4, 4), 1))).tolist() == np.full((4, 4, 1), 255).tolist()
    cmyk = decode(encoded(red.convert("CMYK"), "JPEG", quality=100))
    assert cmyk.shape == (4, 4, 3)
    assert np.abs(cmyk.astype(int) - [255, 0, 0]).max() < 8


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(BadImage, match="32-bit pixels"):
        decode(encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"))


def test_resize_and_crop_equal_torchvision(picture: Picture) -> None:
    image = Image.fromarray(picture(4, height=40, width=60))
    theirs = v2.CenterCrop(16)(v2.Resize(16, v2.InterpolationMode.BILINEAR, antialias=True)(image))
    assert np.array_equal(decode(encoded(image), image_size=16), np.asarray(theirs))
    assert decode(encoded(Image.fromarray(picture(5, 3, 90))), image_size=16).shape == (16, 16, 3)


def test_reduced_jpeg_decoding_shows_the_same_image() -> None:
    ramp = np.linspace(0, 255, 96)
    smooth = np.stack([np.add.outer(ramp / 2, ramp / 2)] * 3, axis=2).astype(np.uint8)
    ours = decode(encoded(Image.fromarray(smooth), "JPEG", quality=95), image_size=8)
    full = decode(encoded(Image.fromarray(smooth)), image_size=8)
    assert np.abs(ours.astype(int) - full).max() <= 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a readable image"), (b"words", "not a readable image"), (b"\x89PNG\r\n\x1a\n", "not a re")],
)
def test_what_is_no_image_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(content)


def test_truncated_files_and_bombs_are_refused(picture: Picture, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(picture(6, 60, 60)), "JPEG", quality=95)
    with pytest.raises(BadImage, match="cannot decode"):
        decode(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=r"200 x 100 pixels, more than data.max_pixels = 10000"):
        decode(encoded(Image.new("L", (200, 100))))
    with pytest.raises(BadImage, match="file is missing"):
        decode(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadImage, match="file is empty"):
        inspect_image(tmp_path / "empty.png", max_pixels=10)
