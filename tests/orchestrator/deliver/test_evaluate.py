"""Scores of a labelled folder against the live members' predictions counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binomtest

from orchestrator.deliver.evaluate import evaluate_bundle, in_words, wilson
from orchestrator.deliver.runtime import Runtime
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World


def test_scores_equal_counting_by_hand(world: World, photos: Path) -> None:
    (photos / "dog" / "zz.png").write_bytes(b"junk")
    found = evaluate_bundle(world.bundle, photos)
    probabilities = Runtime(world.bundle).probabilities(world.splits.test.images).astype(np.float64)
    targets = world.splits.test.targets.astype(int)
    assert found["n"] == 20 and [Path(path).name for path, _ in found["skipped"]] == ["zz.png"]
    assert found["accuracy"] == pytest.approx((probabilities.argmax(1) == targets).mean())
    assert found["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(20), targets]).mean(), abs=1e-5)
    for true in range(3):
        for guess in range(3):
            assert found["confusion"][true][guess] == ((targets == true) & (probabilities.argmax(1) == guess)).sum()
    dogs = found["per_class"]["dog"]
    assert dogs["images"] == (targets == 1).sum() and dogs["recall"] == found["confusion"][1][1] / dogs["images"]


def test_words_hold_the_scores_and_a_row_a_class(world: World, photos: Path) -> None:
    (photos / "dog" / "zz.png").write_bytes(b"junk")
    found = evaluate_bundle(world.bundle, photos)
    lines = in_words(found).splitlines()
    assert lines[0] == "n 20"
    assert lines[1] == f"accuracy {found['accuracy']:.4f} [{found['accuracy_low']:.4f}, {found['accuracy_high']:.4f}]"
    assert f"log_loss {found['log_loss']:.4f}" in lines and not [line for line in lines if line.startswith("loss ")]
    assert sum(line.split()[0] in found["per_class"] for line in lines if line) == len(found["per_class"])
    assert lines[-1].startswith("left out: ") and "zz.png" in lines[-1]


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 7), (950, 1000)])
def test_interval_is_wilsons(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_what_does_not_fit_is_named(world: World, photos: Path, tmp_path: Path) -> None:
    (photos / "zebra").mkdir()
    with pytest.raises(UserError, match="subfolders zebra are not among its classes"):
        evaluate_bundle(world.bundle, photos)
    with pytest.raises(UserError, match="no such folder"):
        evaluate_bundle(world.bundle, tmp_path / "none")
    empty = tmp_path / "empty"
    (empty / "dog").mkdir(parents=True)
    with pytest.raises(UserError, match="no image in it"):
        evaluate_bundle(world.bundle, empty)
    (empty / "dog" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 1 images can be read"):
        evaluate_bundle(world.bundle, empty)
