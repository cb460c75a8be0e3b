"""Runs a bundle with numpy, Pillow and onnxruntime alone; every bundle carries a copy of this file, so nothing else is needed.

As a script: `python runtime.py IMAGE...` prints one JSON line an image.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMAT = "orchestrate-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
MANIFEST_LIMIT = 64_000_000
"""Bytes; a larger manifest is refused unread."""


class BundleError(ValueError):
    """A folder that is not a bundle, or not the one that was exported: says which file and what is wrong with it."""


class ImageError(ValueError):
    """An input that cannot be read as an image, with the reason."""


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a manifest, closed by the digest of everything else in it."""
    body = {key: value for key, value in manifest.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "digest": digest}, indent=1, sort_keys=True) + "\n").encode()


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest; raises BundleError when it is missing, changed, or of a newer format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: no {MANIFEST} here; expected the folder that `export` wrote")
    if path.stat().st_size > MANIFEST_LIMIT:
        raise BundleError(f"{path}: {path.stat().st_size} bytes, allowed: {MANIFEST_LIMIT}")
    content = path.read_bytes()
    try:
        manifest = json.loads(content)
        known = manifest["format"] == FORMAT
        version = int(manifest["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({type(error).__name__}: {error})") from error
    if not known or version > FORMAT_VERSION:
        came = f"format {manifest['format']!r} version {version}"
        raise BundleError(f"{path}: {came}; this program reads {FORMAT!r} up to version {FORMAT_VERSION}")
    if manifest_bytes(manifest) != content:
        raise BundleError(f"{path}: changed since the export; export again or fetch a clean copy")
    return dict(manifest)


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a bundle against its manifest and return that; raises BundleError naming the first that differs."""
    manifest = read_manifest(folder)
    listed: Mapping[str, Mapping[str, Any]] = manifest["files"]
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_symlink() or not p.is_dir()}
    found.pop(MANIFEST)
    for name in sorted({*listed, *found}):
        if name not in found:
            raise BundleError(f"{folder}: {name} is missing; export again or fetch a clean copy")
        if name not in listed:
            raise BundleError(f"{folder}: {name} does not belong to the export; remove it")
        if found[name].is_symlink() or not found[name].is_file():
            raise BundleError(f"{folder}: {name} is not a plain file")
        if file_digest(found[name]) != listed[name]["sha256"]:
            raise BundleError(f"{folder}: {name} changed since the export; export again or fetch a clean copy")
    return manifest


def decode(source: Path | bytes, *, height: int, width: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return one image as uint8 [height, width, channels], by the rule of the training data (`trainables.data.decode`).

    Upright by EXIF, grey (1 channel) or RGB (3), short side resized (bilinear with antialias), centre kept. Raises ImageError
    for what is no image, is cut off, or has more than `max_pixels` pixels.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} pixels, allowed: {max_pixels} in all")
            image.draft(None, (2 * width, 2 * height))  # JPEG: decode at 1/2, 1/4, 1/8 where that is enough
            image.load()
            return fit(to_mode(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB"), height, width)
    except (MemoryError, ImageError):
        raise
    except FileNotFoundError as fault:
        raise ImageError("file is missing") from fault
    except Exception as fault:  # each of Pillow's decoders has its own ways to fail on a broken file
        raise ImageError(f"not a readable image ({type(fault).__name__})") from fault


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to "L" or "RGB"; 16-bit grey is scaled to 8 bits instead of clipped."""
    if image.mode in DEEP_MODES or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ImageError(f"32-bit pixels (mode {image.mode}) have no known range: convert to 8 or 16 bit")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize so that the image just covers [height, width], then keep the centre."""
    if image.size != (width, height):
        scale = max(height / image.height, width / image.width)
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        image = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    return np.asarray(image, dtype=np.uint8).reshape(height, width, -1)


def from_base64(text: str) -> bytes:
    """Decode base64 as JSON carries images; raises ImageError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("not base64") from error


class Graph:
    """An ONNX file in onnxruntime, on the GPU where onnxruntime has one."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise BundleError(f"{path}: onnxruntime cannot load it ({error})") from error

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities [N, K] of uint8 images [N, H, W, C]."""
        found: NDArray[np.float32] = self.session.run(["probabilities"], {"images": images})[0]
        return found


class Runtime:
    """A checked bundle, loaded: images in, probabilities and named answers out."""

    def __init__(self, folder: Path | str, *, threads: int = 0) -> None:
        """Verify the folder and load its graph; `threads` 0 leaves the number to onnxruntime."""
        self.folder = Path(folder)
        self.manifest = verify(self.folder)
        self.graph = Graph(self.folder / MODEL, threads=threads)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the columns; empty for regression."""
        return tuple(self.manifest["classes"])

    def decode(self, source: Path | bytes) -> NDArray[np.uint8]:
        """Return one image as the graph wants it, uint8 [H, W, C]; raises ImageError."""
        shape = self.manifest["input"]
        return decode(source, **{key: int(shape[key]) for key in ("height", "width", "channels", "max_pixels")})

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities [N, K] (regression: values [N, 1]) of uint8 images [N, H, W, C]."""
        return self.graph.probabilities(images)

    def answer(self, row: NDArray[np.float32]) -> dict[str, Any]:
        """Return one row of probabilities as {"class", "probability", "probabilities"}; of regression as {"value"}."""
        if not self.classes:
            return {"value": float(row[0])}
        best = int(row.argmax())
        named = {name: float(p) for name, p in zip(self.classes, row, strict=True)}
        return {"class": self.classes[best], "probability": float(row[best]), "probabilities": named}

    def answers(self, sources: Sequence[Path | bytes]) -> list[dict[str, Any]]:
        """Return an answer for each source, or {"error": reason} for one that is no readable image."""
        rows: list[dict[str, Any]] = []
        images: list[NDArray[np.uint8]] = []
        for source in sources:
            try:
                images.append(self.decode(source))
                rows.append({})
            except ImageError as error:
                rows.append({"error": str(error)})
        if images:
            found = iter(self.probabilities(np.stack(images)))
            rows = [row or self.answer(next(found)) for row in rows]
        return rows


def main(paths: Sequence[str]) -> int:
    """Print one JSON line for each path; exit code 1 when one of them could not be read."""
    runtime = Runtime(Path(__file__).parent)
    failed = False
    for path in paths:
        (row,) = runtime.answers([Path(path)])
        failed |= "error" in row
        print(json.dumps({"path": path, **row}))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
