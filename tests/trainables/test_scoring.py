"""A pass scored in few pieces has the numbers of one scored batch by batch, bit for bit, and of the metrics' own code."""

from __future__ import annotations

import pytest
import torch

from trainables import scoring
from trainables.metrics import evaluate_probabilities
from trainables.scoring import PassScores

SIZES = (16, 15, 1, 7)


def scored(task: str, classes: int) -> PassScores:
    generator = torch.Generator().manual_seed(classes)
    found = PassScores(task)
    for size in SIZES:
        labels = torch.randint(classes, (size,), generator=generator) if classes > 1 else torch.randn(size, generator=generator)
        found.add(torch.randn(size, classes, generator=generator), labels, torch.rand(size, generator=generator))
    return found


@pytest.mark.parametrize(("task", "classes"), [("classification", 2), ("classification", 37), ("regression", 1)])
def test_batches_scored_together_and_alone_are_the_same_bit_for_bit(
    task: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = scored(task, classes)
    assert not together.columns
    monkeypatch.setattr(scoring, "HELD", 1)
    alone = scored(task, classes)
    assert len(alone.columns) == len(SIZES)
    assert together.summary() == alone.summary()
    assert len(together.columns) == 1


def test_the_scores_are_the_metrics_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 4, generator=generator), torch.randint(4, (50,), generator=generator)
    found = PassScores("classification")
    for rows in torch.arange(50).split(8):
        found.add(logits[rows], labels[rows], torch.full((len(rows),), 2.0))
    wanted = evaluate_probabilities(logits.softmax(1).numpy(), labels.numpy())
    summary = found.summary()
    assert summary["loss"] == 2.0
    for name in ("accuracy", "log_loss", "brier", "ece"):
        assert summary[name] == pytest.approx(wanted[name], rel=1e-5), name
