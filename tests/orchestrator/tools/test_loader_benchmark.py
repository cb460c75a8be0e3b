"""The loader's settings, timings and verdict."""

from __future__ import annotations

import pytest

from orchestrator.config import Experiment
from orchestrator.tools.loader_benchmark import LoaderReport, all_settings, benchmark_loader, loader_figure
from trainables.data.loader import CANON, LoaderSettings, LoaderTiming


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
