"""Predict: a few test images as files, classified by the exported folder alone, as its user would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.context import Context
from orchestrator.errors import UserError
from orchestrator.store.workspace import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainables.data.dataset import Splits

SAMPLES = 10


def run_predict(context: Context) -> list[dict[str, Any]]:
    """Write sample images of the test split, predict them with the bundle; keep and return the rows with their targets."""
    from orchestrator.deliver.predict import in_words, predict_images

    workspace = context.workspace
    if not workspace.bundle.is_dir():
        raise UserError(f"{workspace.root}: no bundle here; run `orchestrate export` first")
    targets = write_samples(context.splits(), workspace.samples)
    rows = predict_images(workspace.bundle, list(targets))
    rows = [{**row, "target": target} for row, target in zip(rows, targets.values(), strict=True)]
    write_json(workspace.samples / "predictions.json", rows)
    for row in rows:
        context.say(f"  {Path(row['path']).name}  {in_words(row)}")
    if all("class" in row for row in rows):
        right = sum(row["class"] == row["target"] for row in rows)
        context.say(f"predict: {right} of {len(rows)} sample images in {workspace.samples} are right")
    return rows


def write_samples(splits: Splits, folder: Path, *, count: int = SAMPLES) -> dict[Path, str | float]:
    """Write images of the test split as PNG and return the target of each file: one a class in turn, the first rows first."""
    from PIL import Image

    test = splits.test
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, str | float] = {}
    for number, row in enumerate(one_a_class_in_turn(test.targets, count) if splits.classes else range(min(count, len(test)))):
        target = splits.classes[int(test.targets[row])] if splits.classes else float(test.targets[row])
        word = re.sub(r"[^\w.-]+", "_", str(target))[:40]
        path = folder / f"{number:02d}_{word}.png"
        Image.fromarray(np.asarray(test.images[row]).squeeze()).save(path)
        found[path] = target
    return found


def one_a_class_in_turn(targets_N: NDArray[Any], count: int) -> list[int]:
    """Return up to `count` rows: the first of each class, then the second of each, and so on."""
    rank = np.empty(len(targets_N), dtype=np.int64)
    for kind in np.unique(targets_N):
        rows = np.flatnonzero(targets_N == kind)
        rank[rows] = np.arange(len(rows))
    return [int(row) for row in np.lexsort((targets_N, rank))[:count]]
