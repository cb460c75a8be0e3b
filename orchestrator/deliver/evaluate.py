"""Scores of a bundle on a labelled folder, one subfolder a class: every metric, an interval, and what went wrong where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.deliver.predict import find_images, is_image, open_runtime, predict_images
from orchestrator.deliver.runtime import Runtime
from orchestrator.errors import UserError

SAID = ("accuracy", "accuracy_low", "accuracy_high", "loss")
"""Scores that `in_words` has said already; the loss is the log-loss."""

Z_95 = 1.959963984540054


def evaluate_bundle(bundle: Path | str | Runtime, folder: Path | str) -> dict[str, Any]:
    """Return the scores of FOLDER/CLASS/IMAGE: "n", every metric, "accuracy_low", "accuracy_high", and where it went wrong.

    The interval is Wilson's at 95 %; `per_class` has images, recall and precision; `confusion` counts [true][predicted] in
    the order of the bundle's classes; `skipped` lists (path, reason) of images that cannot be read. Raises UserError for a
    class that the bundle does not know, or no image at all.
    """
    from trainables.metrics import evaluate_probabilities

    runtime = bundle if isinstance(bundle, Runtime) else open_runtime(bundle)
    labelled = labelled_images(Path(folder), runtime.classes)
    rows = predict_images(runtime, [path for path, _ in labelled])
    read = [(row, label) for row, (_, label) in zip(rows, labelled, strict=True) if "error" not in row]
    if not read:
        raise UserError(f"{folder}: none of its {len(rows)} images can be read; the first: {rows[0]['error']}")
    probabilities = np.array([[row["probabilities"][name] for name in runtime.classes] for row, _ in read])
    targets = np.array([label for _, label in read])
    confusion = np.zeros((len(runtime.classes), len(runtime.classes)), dtype=np.int64)
    np.add.at(confusion, (targets, probabilities.argmax(axis=1)), 1)
    low, high = wilson(int(np.trace(confusion)), len(read))
    return {
        "n": len(read),
        **evaluate_probabilities(probabilities, targets),
        "accuracy_low": low,
        "accuracy_high": high,
        "per_class": _per_class(confusion, runtime.classes),
        "confusion": confusion.tolist(),
        "skipped": [(row["path"], row["error"]) for row in rows if "error" in row],
    }


def labelled_images(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return (image, class index) of every image under FOLDER/CLASS; raises UserError naming what does not fit."""
    if not classes:
        raise UserError("this bundle predicts values, not classes: `evaluate` needs a classification bundle")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one subfolder a class: {', '.join(classes[:10])}")
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    unknown = [p.name for p in found if p.name not in classes]
    if unknown:
        raise UserError(f"{folder}: subfolders {', '.join(unknown[:10])} are not among its classes: {', '.join(classes[:10])}")
    images = [
        (path, classes.index(place.name))
        for place in found
        if any(is_image(p.relative_to(place)) for p in place.rglob("*"))
        for path in find_images([place])
    ]
    if not images:
        raise UserError(f"{folder}: no image in it; expected one subfolder a class: {', '.join(classes[:10])}")
    return images


def in_words(scores: Mapping[str, Any]) -> str:
    """Return what `evaluate_bundle` found as a few lines and a small table of the classes."""
    low, high = scores["accuracy_low"], scores["accuracy_high"]
    lines = [f"n {scores['n']}", f"accuracy {scores['accuracy']:.4f} [{low:.4f}, {high:.4f}]"]
    lines += [f"{name} {scores[name]:.4f}" for name in scores if isinstance(scores[name], float) and name not in SAID]
    width = max(map(len, scores["per_class"]))
    lines += ["", f"{'class':<{width}}  images  recall  precision"]
    lines += [
        f"{name:<{width}}  {one['images']:>6.0f}  {one['recall']:>6.3f}  {one['precision']:>9.3f}"
        for name, one in scores["per_class"].items()
    ]
    lines += [f"left out: {path} ({reason})" for path, reason in scores["skipped"]]
    return "\n".join(lines)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927)."""
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def _per_class(confusion: np.ndarray[Any, Any], classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return images, recall and precision of each class (0 where nothing was asked or answered)."""
    asked, answered, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    return {
        name: {
            "images": float(asked[i]),
            "recall": float(right[i] / max(1, asked[i])),
            "precision": float(right[i] / max(1, answered[i])),
        }
        for i, name in enumerate(classes)
    }
