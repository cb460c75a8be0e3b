"""Error analysis of a baseline: where it is wrong, what it cannot bear, and which augmentations that asks for or forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.diagnosis.probe import Predict
    from trainables.data.dataset import Splits

SHOWN = 24
SKIPPED_SHOWN = 200
"""Worst predictions and confident mistakes that are kept; files left out that are named."""


def diagnose(
    probabilities: NDArray[np.floating[Any]],
    splits: Splits,
    *,
    predict: Predict,
    seed: int,
    train_accuracy: float | None = None,
    probe_rows: int = 1000,
) -> dict[str, Any]:
    """Return what `diagnosis.json` holds: errors by class, worst predictions, probes, "forbidden", "recommended", "reasons".

    `probabilities` [N, K] are the baseline's on the validation split; `predict` is the same model as a function of uint8 images
    [N, H, W, C]. At most `probe_rows` rows (drawn by `seed`) are probed. For regression only the worst rows are shown.
    """
    if not splits.classes:
        return _of_regression(probabilities, splits)
    import numpy as np

    from orchestrator.diagnosis import errors
    from orchestrator.diagnosis.probe import measure
    from orchestrator.diagnosis.recommend import advise

    labels, classes, ids = splits.val.targets.astype(np.int64), splits.classes, splits.val.ids
    rows = np.sort(np.random.default_rng(seed).permutation(len(labels))[:probe_rows])
    drops = measure(predict, splits.val.images[rows], labels[rows], seed=seed)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    advice = advise(drops, classes, accuracy=accuracy, train_accuracy=train_accuracy)
    worst = errors.worst_rows(probabilities, labels, limit=SHOWN)
    mistakes = errors.confident_mistakes(probabilities, labels, limit=SHOWN)
    return {
        "version": 1,
        "task": "classification",
        "data": data_facts(splits),
        "n": len(labels),
        "accuracy": accuracy,
        "train_accuracy": train_accuracy,
        "classes": errors.class_errors(probabilities, labels, classes),
        "pairs": errors.confused_pairs(probabilities, labels, classes),
        "worst": errors.described(worst, probabilities, labels, classes=classes, ids=ids),
        "confident_mistakes": errors.described(mistakes, probabilities, labels, classes=classes, ids=ids),
        "probe": [drop.to_dict() for drop in drops],
        "probe_rows": len(rows),
        "forbidden": list(advice.forbidden),
        "recommended": list(advice.recommended),
        "reasons": list(advice.reasons),
    }


def data_facts(splits: Splits) -> dict[str, Any]:
    """Return what a report says of the data: source, sizes, classes, fingerprint, files left out, notices."""
    return {
        "source": splits.source,
        "sizes": {name: len(splits.part(name)) for name in ("train", "val", "test")},
        "image_shape": list(splits.image_shape),
        "classes": list(splits.classes),
        "fingerprint": splits.fingerprint,
        "skipped": len(splits.skipped),
        "skipped_files": [list(entry) for entry in splits.skipped[:SKIPPED_SHOWN]],
        "notices": list(splits.notices),
    }


def _of_regression(values: NDArray[np.floating[Any]], splits: Splits) -> dict[str, Any]:
    """Return the rows with the largest errors; no probe, and no advice."""
    import numpy as np

    targets = splits.val.targets
    off = np.abs(values[:, 0] - targets)
    worst = np.argsort(-off, kind="stable")[:SHOWN]
    return {
        "version": 1,
        "task": "regression",
        "data": data_facts(splits),
        "n": len(targets),
        "worst": [
            {"row": int(i), "id": splits.val.ids[i], "true": float(targets[i]), "predicted": float(values[i, 0])} for i in worst
        ],
        "probe": [],
        "forbidden": [],
        "recommended": [],
        "reasons": [],
    }
