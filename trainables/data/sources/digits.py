"""scikit-learn's bundled handwritten digits: 1,797 real 8 x 8 grey scans, no download."""

from __future__ import annotations

import numpy as np

from trainables.data.dataset import DataConfig
from trainables.data.listing import Listing, Progress


def signature(config: DataConfig) -> str:
    """Return what the listing depends on besides the config."""
    return f"digits {config.task}"


def read(config: DataConfig, progress: Progress | None = None) -> Listing:
    """Return all digits as uint8 images; a regression's target is the digit's value."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    if progress:
        progress("read digits", len(images), len(images))
    regression = config.task == "regression"
    return Listing(
        ids=tuple(f"digits/{row:04d}" for row in range(len(images))),
        targets=bunch.target.astype(np.float64 if regression else np.int64),
        given=("",) * len(images),
        classes=() if regression else tuple(str(digit) for digit in range(10)),
        images=images,
    )
