"""Where a model is wrong, as pure functions of probabilities [N, K] and labels [N]: confusion, classes, worst predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def confusion(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """Return counts [true, predicted], [K, K]."""
    counts = np.zeros((probabilities.shape[1],) * 2, dtype=np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def class_errors(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return, worst class first: its name, images, error rate, and the class it is most often taken for (with how often)."""
    counts = confusion(probabilities, labels)
    rows = []
    for index, name in enumerate(classes):
        images, wrong = int(counts[index].sum()), counts[index].copy()
        wrong[index] = 0
        taken = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "images": images,
                "error": float(wrong.sum() / images) if images else 0.0,
                "taken_for": classes[taken] if wrong[taken] else "",
                "times": int(wrong[taken]),
            }
        )
    return sorted(rows, key=lambda row: (-row["error"], row["class"]))


def confused_pairs(probabilities: Floats, labels: Labels, classes: Sequence[str], *, limit: int = 10) -> list[dict[str, Any]]:
    """Return the pairs of classes most often taken for each other, in either direction, most frequent first."""
    counts = confusion(probabilities, labels)
    both = np.triu(counts + counts.T, k=1)
    order = np.argsort(-both, axis=None, kind="stable")[:limit]
    places = [divmod(int(flat), len(classes)) for flat in order]
    return [{"classes": [classes[a], classes[b]], "times": int(both[a, b])} for a, b in places if both[a, b]]


def true_probability(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return the probability that each row gave to its own label, [N]."""
    return np.asarray(probabilities[np.arange(len(labels)), labels], dtype=np.float64)


def worst_rows(probabilities: Floats, labels: Labels, *, limit: int) -> NDArray[np.int64]:
    """Return the rows with the least probability of their own label, worst first: whatever hurts the log-loss most."""
    return np.argsort(true_probability(probabilities, labels), kind="stable")[:limit]


def confident_mistakes(probabilities: Floats, labels: Labels, *, limit: int) -> NDArray[np.int64]:
    """Return the misclassified rows with the most probable wrong class first: hard cases, or wrong labels."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    wrong = probabilities.argmax(axis=1) != labels
    order = np.argsort(np.where(wrong, -confidence, np.inf), kind="stable")
    return order[: min(limit, int(wrong.sum()))]


def described(
    rows: NDArray[np.int64], probabilities: Floats, labels: Labels, *, classes: Sequence[str], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Return rows in words: id, true and predicted class, and both probabilities."""
    truth = true_probability(probabilities, labels)
    return [
        {
            "row": int(row),
            "id": ids[row],
            "true": classes[labels[row]],
            "predicted": classes[int(probabilities[row].argmax())],
            "p_true": float(truth[row]),
            "p_predicted": float(probabilities[row].max()),
        }
        for row in rows
    ]
