"""Two experiments' data: the digits, and a folder of small photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.config import Experiment
from orchestrator.experiment_file import load


@pytest.fixture
def digits(tmp_path: Path) -> Experiment:
    return load(None, [f"run_dir={tmp_path}", "data.limit=300", "train.device=cpu"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"
