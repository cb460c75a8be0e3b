"""The tools on the digits and on photos: what they find is what other roads say, and each prints where its figure lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config import Experiment
from orchestrator.errors import RunFailed, UserError
from orchestrator.experiment_file import load
from orchestrator.tools.doctor import examine, labels_survive
from orchestrator.tools.loader_benchmark import LoaderReport, all_settings, benchmark_loader, loader_figure
from orchestrator.tools.lr_find import find_lr, lr_facts, lr_figure
from orchestrator.tools.stage_benchmark import LIFTS, StageReport, benchmark_stages, stage_figure
from trainables.config import TrainConfig
from trainables.data.loader import CANON, LoaderSettings, LoaderTiming

CHECKS = ["first_batch", "evaluation", "deterministic", "frozen_norms", "normalisation", "homogeneous_batch", "labels"]


@pytest.fixture
def digits(tmp_path: Path) -> Experiment:
    return load(None, [f"run_dir={tmp_path}", "data.limit=300", "train.device=cpu"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_the_doctor_finds_nothing_wrong_with_the_digits(digits: Experiment) -> None:
    found = examine(digits)
    assert [check.name for check in found] == CHECKS
    assert all(check.ok for check in found), found
    assert " x 1 x 8 x 8 (images x channels" in found[0].message


def test_the_doctor_names_images_that_are_all_the_same(photos: Path, tmp_path: Path) -> None:
    for file in photos.rglob("*.png"):
        Image.fromarray(np.full((24, 24, 3), 7, dtype=np.uint8)).save(file)
    experiment = load(None, [f"run_dir={tmp_path}", f"data.source=folder:{photos}", "data.min_per_class=2", "search.forbid=[]"])
    failed = {check.name: check.message for check in examine(experiment) if not check.ok}
    assert "every pixel is the same" in failed["first_batch"]
    assert "normalisation" in failed


@pytest.mark.parametrize(
    ("augmentation", "classes", "forbid", "said"),
    [
        ("crop_flip", tuple("0123456789"), (), "may hflip, but the classes look like digits"),
        ("rotate+flip", ("ant", "bee"), ("rotate",), "may rotate, but search.forbid names it"),
        ("crop_flip", ("ant", "bee"), (), ""),
        ("rotate", tuple("0123456789"), (), ""),
    ],
)
def test_augmentations_that_change_the_label_are_found(
    augmentation: str, classes: tuple[str, ...], forbid: tuple[str, ...], said: str
) -> None:
    found = labels_survive(TrainConfig(augmentation=augmentation), classes, forbid)
    assert found.ok is not bool(said)
    assert said in found.message


def test_a_model_that_cannot_be_built_is_the_users_to_mend(digits: Experiment) -> None:
    wrong = digits.model_copy(update={"train": {"model": "resnet18", "weights": "/nowhere.pth"}})
    for tool in (examine, find_lr, benchmark_stages):
        with pytest.raises(UserError, match="nowhere"):
            tool(wrong)


def test_the_doctor_ends_with_1_where_a_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.tools import doctor
    from trainables.guards import GuardResult

    monkeypatch.setattr(doctor, "examine", lambda _: [GuardResult("a", True, "fine"), GuardResult("b", False, "broken")])
    done = CliRunner().invoke(app, ["doctor"])
    assert isinstance(done.exception, RunFailed)
    assert "1 of 2 checks failed: b" in str(done.exception)
    assert done.stdout == "ok    a: fine\nFAIL  b: broken\n"


def test_lr_find_suggests_a_rate_between_standing_still_and_divergence(digits: Experiment) -> None:
    curve = find_lr(digits, low=1e-5, high=10.0, steps=40)
    assert curve.suggestion is not None
    assert 1e-4 < curve.suggestion < 1.0
    assert curve.smoothed[-1] > min(curve.smoothed)
    facts = json.loads(json.dumps(lr_facts(curve)))
    assert facts["suggestion"] == curve.suggestion
    (axes,) = lr_figure(curve).axes
    assert axes.get_xscale() == "log"
    with pytest.raises(UserError, match="at least 3 steps"):
        find_lr(digits, low=1.0, high=0.1)


def test_lr_find_works_on_cached_features(digits: Experiment) -> None:
    frozen = digits.model_copy(update={"train": {**digits.train, "finetune_depth": "head", "device": "cpu"}})
    assert len(find_lr(frozen, steps=5).rates) == 5


def test_the_classic_four_are_among_the_settings() -> None:
    assert list(all_settings(cuda=False))[:4] == list(CANON)
    assert len(all_settings(cuda=False)) == 6
    on_cuda = all_settings(cuda=True)
    assert len(on_cuda) == 12
    assert on_cuda["8 workers, pinned, non-blocking"] == LoaderSettings(8, True, True)


def _timing(seconds: float) -> LoaderTiming:
    return LoaderTiming(LoaderSettings(), 0.1, seconds, 100)


def test_the_loaders_verdict_follows_the_timings() -> None:
    gains = LoaderReport({"0 workers": _timing(4.0), "4 workers": _timing(2.0)}, False, 64, "cpu")
    assert "4 workers is 2.0x as fast as 0 workers: decoding is the bottleneck" in gains.verdict
    none = LoaderReport({"0 workers": _timing(1.0), "4 workers": _timing(2.0)}, True, 64, "cpu")
    assert none.fastest == "0 workers"
    assert "gain nothing" in none.verdict
    assert gains.to_dict()["timings"]["4 workers"]["images_per_second"] == 50


def test_the_loader_is_timed_on_the_experiments_data(digits: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.tools.loader_benchmark.WORKERS", (0,))
    monkeypatch.setattr("trainables.data.loader.CANON", {"0 workers": LoaderSettings(), "2 workers": LoaderSettings(workers=2)})
    report = benchmark_loader(digits, batches=2)
    assert {name: timing.images for name, timing in report.timings.items()} == {"0 workers": 128, "2 workers": 128}
    assert report.decoded
    assert "0 workers" in str(report)
    assert [bar.get_width() for bar in loader_figure(report).axes[0].patches] == [t.seconds for t in report.timings.values()]


def test_every_stage_is_measured_and_files_are_decoded(photos: Path, tmp_path: Path) -> None:
    experiment = load(
        None,
        [f"run_dir={tmp_path}", f"data.source=folder:{photos}", "train.model=cnn_b", "train.device=cpu", "search.forbid=[]"],
    )
    report = benchmark_stages(experiment, seconds=0.0)
    assert list(report.seconds) == ["decode", "cache", "augment", "forward", "backward", "checkpoint", "logging"]
    assert all(value > 0 for value in report.seconds.values())
    assert sum(report.share(stage) for stage in report.seconds if stage != "decode") == pytest.approx(1)
    assert "nothing is copied" in " ".join(report.notes)
    assert report.bottleneck in str(report)
    assert len(stage_figure(report).axes[0].patches) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"], "nothing is left behind"


def test_the_bottleneck_is_the_slowest_stage_that_is_paid_each_epoch() -> None:
    seconds = {"decode": 9.0, "cache": 1.0, "forward": 2.0, "backward": 1.0}
    once, each = StageReport(seconds, (), True, "cpu"), StageReport(seconds, (), False, "cpu")
    assert (once.bottleneck, each.bottleneck) == ("forward", "decode")
    assert once.share("forward") == 0.5
    assert "once a node" in str(once)
    assert each.to_dict()["lift"] == LIFTS["decode"]


def test_verbs_print_their_figures_path_and_json(tmp_path: Path) -> None:
    options = ["-o", f"run_dir={tmp_path}", "-o", "data.limit=300", "-o", "train.device=cpu"]
    done = CliRunner().invoke(app, ["lr-find", *options, "--steps", "6"])
    figure = tmp_path / "digits" / "figures" / "lr_find.png"
    assert done.exit_code == 0, done.output
    assert f"figure: {figure}" in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    out = tmp_path / "elsewhere.png"
    done = CliRunner().invoke(app, ["benchmark", "stages", *options, "--seconds", "0", "--json", "--out", str(out)])
    assert json.loads(done.stdout)["figure"] == str(out)
    assert out.exists()


def test_advise_says_what_to_set_first() -> None:
    done = CliRunner().invoke(app, ["advise"])
    assert isinstance(done.exception, UserError)
    assert "train.weights" in str(done.exception)
