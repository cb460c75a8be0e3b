"""The transfer strategy: the rules of thumb as a table."""

from __future__ import annotations

import pytest

from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.setup.advise import advise, decide


@pytest.mark.parametrize(
    ("images", "similarity", "depth"),
    [
        (100, 0.9, "head"),  # small and similar: the classifier alone
        (100, 0.2, "last_2"),  # small and different: freeze the early layers
        (3_000, 0.9, "head"),  # a few thousand a class: feature extraction is enough
        (3_000, 0.2, "last_2"),
        (30_000, 0.9, "all"),  # tens of thousands: fine-tuning wins
        (30_000, 0.1, "all"),
        (100, None, "head"),
        (30_000, None, "all"),
    ],
)
def test_rules(images: float, similarity: float | None, depth: str) -> None:
    advice = decide(images, similarity)
    assert advice.depth == depth
    assert depth in advice.depths
    assert f"{images:,}" in advice.reason
    assert advice.depth in str(advice)
    assert advice.to_dict()["depths"] == list(advice.depths)


def test_reasons_say_what_was_measured() -> None:
    assert "not measured" in decide(500).reason
    assert "85%" in decide(500, 0.85).reason
    assert "augmentation and the backbone matter more than depth" in decide(500, 0.85).reason
    assert "light classifier" in decide(500, 0.1).strategy


@pytest.mark.parametrize(("images", "similarity"), [(0, 0.5), (-1, None), (10, 1.5)])
def test_what_cannot_be_is_refused(images: float, similarity: float | None) -> None:
    with pytest.raises(ValueError, match="advise: got"):
        decide(images, similarity)


def test_without_pretrained_weights_there_is_nothing_to_advise() -> None:
    with pytest.raises(UserError, match="set train.model and train.weights"):
        advise(load(None))
