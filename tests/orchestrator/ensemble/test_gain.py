"""The objective of a search for an ensemble: closed forms, brute force over weights, and what it prefers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.ensemble.gain import EnsembleGain, joined_loss


def probs(labels_N: NDArray[np.int64], right_N: NDArray[np.bool_], confidence: float = 0.8) -> NDArray[np.float32]:
    """Return three-class predictions that give `confidence` to the label where they are right, else to the next class."""
    found = np.full((len(labels_N), 3), (1 - confidence) / 2, dtype=np.float32)
    found[np.arange(len(labels_N)), np.where(right_N, labels_N, (labels_N + 1) % 3)] = confidence
    return found


LABELS = np.arange(300) % 3
NUMBER = np.arange(300)


def test_joined_loss_is_the_least_over_all_weights() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.05, 0.5, 1.0):
        ensemble, new = rng.uniform(0.05, 1, 400), scale * rng.uniform(0.05, 1, 400)
        tried = [-np.log((1 - w) * ensemble + w * new).mean() for w in np.linspace(0, 1, 20_001)]
        assert joined_loss(ensemble, new) == pytest.approx(min(tried), abs=1e-7)


def test_without_members_it_is_the_calibrated_log_loss() -> None:
    right = NUMBER % 10 < 7  # the best temperature makes the confidence the accuracy, 0.7, and halves the rest
    wanted = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3 / 2))
    assert EnsembleGain(LABELS).loss(probs(LABELS, right, 0.9)) == pytest.approx(wanted, abs=1e-5)


def test_of_two_equally_good_trials_the_one_that_errs_elsewhere_is_worth_more() -> None:
    first, twin, other = NUMBER % 5 != 0, NUMBER % 5 != 0, NUMBER % 5 != 1
    gain = EnsembleGain(LABELS)
    gain.add("first", probs(LABELS, first))
    assert "first" in gain and "twin" not in gain
    assert gain.loss(probs(LABELS, other)) < gain.loss(probs(LABELS, twin)) - 0.02
    alone = EnsembleGain(LABELS, share=0.0)
    alone.add("first", probs(LABELS, first))
    assert alone.loss(probs(LABELS, other)) == pytest.approx(alone.loss(probs(LABELS, twin)), abs=1e-9)


def test_a_useless_member_costs_the_ensemble_nothing_and_its_own_loss_half() -> None:
    useless = np.full((300, 3), 1 / 3, dtype=np.float32)
    gain = EnsembleGain(LABELS, share=1.0)
    gain.add("good", probs(LABELS, NUMBER % 10 != 0))
    ensemble = gain.loss(probs(LABELS, NUMBER % 10 != 0))  # its twin adds nothing
    assert gain.loss(useless) == pytest.approx(ensemble, abs=1e-6)
    half = EnsembleGain(LABELS)
    half.add("good", probs(LABELS, NUMBER % 10 != 0))
    assert half.loss(useless) == pytest.approx(0.5 * np.log(3) + 0.5 * ensemble, abs=1e-5)
    with pytest.raises(ValueError, match="share"):
        EnsembleGain(LABELS, share=1.5)
