"""scikit-learn's bundled handwritten digits: 1,797 real 8 x 8 grey scans, no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing, Progress


def signature(config: DataConfig) -> str:
    """Return what the listing depends on besides the config."""
    return f"digits {config.task}"


def _file() -> Path:
    """Return the file in scikit-learn's package, which is not imported: that takes seconds, in every worker."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is one of the dependencies"
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read(config: DataConfig, progress: Progress | None = None) -> Listing:
    """Return all digits as uint8 images; a regression's target is the digit's value."""
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255.0 / 16.0)).astype(np.uint8)[..., None]
    if progress:
        progress("read digits", len(images), len(images))
    regression = config.task == "regression"
    return Listing(
        ids=tuple(f"digits/{row:04d}" for row in range(len(images))),
        targets=table[:, -1].astype(np.float64) if regression else table[:, -1],
        given=("",) * len(images),
        classes=() if regression else tuple(str(digit) for digit in range(10)),
        images=images,
    )
