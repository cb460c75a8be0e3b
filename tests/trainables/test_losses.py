"""Losses a row against torch's own and against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from trainables.config import TrainConfig
from trainables.losses import Loss, balanced_weights, build_loss

LOGITS = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 3, 1, 1])


def of(**values: object) -> Loss:
    config = TrainConfig.from_dict(values)
    return build_loss(config, CLASSES.numpy(), 4 if config.task == "classification" else 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_cross_entropy_is_torchs_with_smoothing_and_weights(smoothing: float, weights: str) -> None:
    expected = F.cross_entropy(
        LOGITS,
        CLASSES,
        weight=balanced_weights(CLASSES.numpy(), 4) if weights == "balanced" else None,
        label_smoothing=smoothing,
        reduction="none",
    )
    assert torch.equal(of(label_smoothing=smoothing, class_weights=weights)(LOGITS, CLASSES), expected)


def test_soft_targets_mix_the_losses_of_their_classes() -> None:
    loss = of()
    other = CLASSES.roll(1)
    soft = 0.3 * F.one_hot(CLASSES, 4).double() + 0.7 * F.one_hot(other, 4).double()
    torch.testing.assert_close(loss(LOGITS, soft), 0.3 * loss(LOGITS, CLASSES) + 0.7 * loss(LOGITS, other))
    focal = of(loss="focal")
    torch.testing.assert_close(focal(LOGITS, soft), 0.3 * focal(LOGITS, CLASSES) + 0.7 * focal(LOGITS, other))


def test_focal_is_the_formula_and_with_gamma_zero_cross_entropy() -> None:
    p = LOGITS.softmax(1)[torch.arange(6), CLASSES]
    torch.testing.assert_close(of(loss="focal", focal_gamma=1.5)(LOGITS, CLASSES), -((1 - p) ** 1.5) * p.log())
    plain = {"label_smoothing": 0.1, "class_weights": "balanced"}
    flat = of(loss="focal", focal_gamma=0.0, **plain)(LOGITS, CLASSES)
    torch.testing.assert_close(flat, of(loss="cross_entropy", **plain)(LOGITS, CLASSES))


def test_balanced_weights_are_scikit_learns() -> None:
    targets = np.array([0, 0, 0, 1, 3, 3])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=targets)
    found = balanced_weights(targets, 4).numpy()
    np.testing.assert_allclose(found[[0, 1, 3]], expected)
    assert found[2] == 0
    assert found[targets].mean() == pytest.approx(1.0)


@pytest.mark.parametrize(("kind", "theirs"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.huber_loss)])
def test_regression_losses_are_torchs(kind: str, theirs: object) -> None:
    values, targets = LOGITS[:, :1] * 3, LOGITS[:, 1]
    found = of(task="regression", loss=kind)(values, targets)
    assert found.shape == (6,)
    assert torch.equal(found, theirs(values[:, 0], targets, reduction="none"))  # type: ignore[operator]


def test_auto_is_cross_entropy_or_squared_error() -> None:
    assert of().kind == "cross_entropy"
    assert of(task="regression").kind == "mse"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"loss": "mse"}, "train.loss"),
        ({"task": "regression", "loss": "focal"}, "train.loss"),
        ({"task": "regression", "class_weights": "balanced"}, "train.class_weights"),
    ],
)
def test_a_loss_of_another_task_is_refused_by_name(values: dict[str, object], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        of(**values)
