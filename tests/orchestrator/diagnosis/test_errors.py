"""Error tables against scikit-learn and counting by hand."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix

from orchestrator.diagnosis import errors

CLASSES = ("ant", "bee", "cow")


def pool(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(3), n), rng.integers(0, 3, n)


def test_confusion_is_scikit_learns() -> None:
    probabilities, labels = pool(0)
    expected = confusion_matrix(labels, probabilities.argmax(1), labels=range(3))
    assert np.array_equal(errors.confusion(probabilities, labels), expected)


def test_class_errors_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    said = np.array([0, 1, 1, 2, 1, 1])
    rows = errors.class_errors(np.eye(3)[said], labels, CLASSES)
    assert rows[0] == {"class": "ant", "images": 4, "error": 0.75, "taken_for": "bee", "times": 2}
    assert rows[1] == {"class": "bee", "images": 2, "error": 0.0, "taken_for": "", "times": 0}
    assert rows[2] == {"class": "cow", "images": 0, "error": 0.0, "taken_for": "", "times": 0}


def test_pairs_count_both_directions() -> None:
    labels, said = np.array([0, 1, 0, 2]), np.array([1, 0, 2, 2])
    pairs = errors.confused_pairs(np.eye(3)[said], labels, CLASSES)
    assert pairs == [{"classes": ["ant", "bee"], "times": 2}, {"classes": ["ant", "cow"], "times": 1}]


def test_worst_rows_have_the_greatest_log_loss() -> None:
    probabilities, labels = pool(1)
    losses = -np.log(probabilities[np.arange(200), labels])
    assert np.array_equal(errors.worst_rows(probabilities, labels, limit=10), np.argsort(-losses, kind="stable")[:10])


def test_confident_mistakes_are_wrong_and_ordered() -> None:
    probabilities, labels = pool(2)
    rows = errors.confident_mistakes(probabilities, labels, limit=1000)
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    assert set(rows) == set(wrong)
    assert (np.diff(probabilities[rows].max(1)) <= 0).all()


def test_a_perfect_model_makes_no_mistake() -> None:
    labels = np.array([0, 1, 2])
    assert len(errors.confident_mistakes(np.eye(3), labels, limit=5)) == 0
    assert errors.confused_pairs(np.eye(3), labels, CLASSES) == []


def test_rows_in_words() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2]])
    (row,) = errors.described(np.array([0]), probabilities, np.array([2]), classes=CLASSES, ids=("a.png",))
    assert row == {"row": 0, "id": "a.png", "true": "cow", "predicted": "bee", "p_true": 0.2, "p_predicted": 0.7}
