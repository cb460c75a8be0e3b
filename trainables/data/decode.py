"""One image file to uint8 [H, W, C]: EXIF rotation, grey, 16-bit, palette, CMYK; bombs refused; resized and cropped."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp", ".gif"})
"""File name endings taken for images."""

_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N")


class BadImage(ValueError):
    """A file that cannot become an image; the message is the reason."""


def decode_image(source: Path | str | bytes, *, image_size: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return one image as uint8 [H, W, C]; raises BadImage with the reason.

    `image_size` resizes the short side (bilinear with antialias) and crops the centre square; 0 keeps the image's own size.
    `channels` is 1 (grey) or 3 (RGB); 0 keeps grey images grey and makes all others RGB. Animations give their first frame.
    """
    with _opened(source, max_pixels) as image:
        try:
            if image_size:
                image.draft(None, (2 * image_size, 2 * image_size))  # JPEG: decode at 1/2, 1/4, 1/8 where that is enough
            image.load()
            return fit_image(_upright(image), image_size=image_size, channels=channels)
        except (MemoryError, BadImage):
            raise
        except Exception as fault:  # each PIL decoder has its own ways to fail on a broken file
            raise BadImage(f"cannot decode: {fault}") from fault


def inspect_image(source: Path | str | bytes, *, max_pixels: int) -> tuple[int, int, int]:
    """Return (height, width, channels) as `decode_image` would give them at its own size, from the header; raises BadImage."""
    with _opened(source, max_pixels) as image:
        width, height = image.size
        try:
            turned = ("exif" in image.info or image.format == "TIFF") and image.getexif().get(0x0112, 1) >= 5
        except Exception as fault:
            raise BadImage(f"cannot read the EXIF header: {fault}") from fault
        if turned:  # orientations 5 to 8 swap the axes
            width, height = height, width
        return height, width, 1 if _is_grey(image) else 3


def fit_image(image: Image.Image, *, image_size: int, channels: int) -> NDArray[np.uint8]:
    """Return a decoded PIL image as uint8 [H, W, C], converted to `channels`, resized and centre-cropped to `image_size`."""
    from PIL import Image

    mode = {0: "L" if _is_grey(image) else "RGB", 1: "L", 3: "RGB"}[channels]
    image = _to_mode(image, mode)
    if image_size and image.size != (image_size, image_size):
        width, height = image.size
        scale = image_size / min(width, height)
        size = (max(image_size, round(width * scale)), max(image_size, round(height * scale)))
        left, top = (size[0] - image_size) // 2, (size[1] - image_size) // 2
        image = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + image_size, top + image_size))
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _opened(source: Path | str | bytes, max_pixels: int) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise BadImage(f"more than {max_pixels} pixels") from fault
    except MemoryError:
        raise
    except Exception as fault:
        raise BadImage("not a readable image" if isinstance(source, bytes) else _open_reason(Path(source), fault)) from fault
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise BadImage(f"{width} x {height} pixels, more than data.max_pixels = {max_pixels}")
    return image


def _open_reason(path: Path, fault: Exception) -> str:
    if isinstance(fault, FileNotFoundError):
        return "file is missing"
    if isinstance(fault, PermissionError):
        return "no permission to read"
    try:
        return "file is empty" if path.stat().st_size == 0 else "not a readable image"
    except OSError:
        return "not a readable image"


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I", "F", *_DEEP_MODES)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image

    if image.mode in _DEEP_MODES or (image.mode == "I" and image.format == "PNG"):
        deep = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))  # 65535 -> 255, rounded
    elif image.mode in ("I", "F"):
        raise BadImage(f"32-bit pixels (mode {image.mode}) have no known range: convert to 8 or 16 bit")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
