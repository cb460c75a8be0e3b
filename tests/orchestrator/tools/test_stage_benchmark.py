"""Every stage is measured, and the bottleneck is the slowest of those paid each epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import Experiment
from orchestrator.experiment_file import load
from orchestrator.tools.stage_benchmark import LIFTS, ONCE_A_NODE, ONCE_A_VIEW, StageReport, benchmark_stages, stage_figure


def test_every_stage_is_measured_and_files_are_decoded(photos: Path, tmp_path: Path) -> None:
    experiment = load(
        None,
        [f"run_dir={tmp_path}", f"data.source=folder:{photos}", "train.model=cnn_b", "train.device=cpu", "search.forbid=[]"],
    )
    report = benchmark_stages(experiment, seconds=0.0)
    assert list(report.seconds) == ["decode", "cache", "augment", "forward", "backward", "checkpoint", "logging"]
    assert all(value > 0 for value in report.seconds.values())
    assert sum(report.share(stage) for stage in report.seconds if stage not in ("decode", "checkpoint")) == pytest.approx(1)
    assert report.rare["checkpoint"] == "at most 3%" in str(report)
    assert "nothing is copied" in " ".join(report.notes)
    assert report.bottleneck in str(report)
    assert len(stage_figure(report).axes[0].patches) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"], "nothing is left behind"


def test_the_bottleneck_is_the_slowest_stage_that_is_paid_each_epoch() -> None:
    seconds = {"decode": 9.0, "cache": 1.0, "forward": 2.0, "backward": 1.0}
    once, each = (StageReport(seconds, rare, (), "cpu") for rare in ({"decode": ONCE_A_NODE}, {}))
    assert (once.bottleneck, each.bottleneck) == ("forward", "decode")
    assert once.share("forward") == 0.5
    assert "once a node" in str(once)
    assert each.to_dict()["lift"] == LIFTS["decode"]


def test_on_cached_features_only_what_lies_above_the_cut_is_paid_each_epoch(digits: Experiment) -> None:
    knobs = {"model": "cifar_resnet", "depth": 8, "width": 8, "finetune_depth": "head"}
    frozen = digits.model_copy(update={"baseline": {**digits.baseline, **knobs}})
    report = benchmark_stages(frozen, seconds=0.0)
    assert report.paid == ["forward", "backward", "logging"]
    assert report.rare["frozen"] == report.rare["augment"] == ONCE_A_VIEW
    assert report.seconds["frozen"] > 0
