"""The benchmark of ways to train K trials at once, on a CPU: its rows, what it counts, its graphs with a stand-in recorder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from trainables.config import TrainConfig
from trainables.data import DataConfig, load_splits
from trainables.image_model import ImageModel
from trainables.slots.graphs import Run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def device_steps() -> ModuleType:
    import device_steps as module  # type: ignore[import-not-found]

    return module


@pytest.fixture
def device_ways(device_steps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:  # noqa: ARG001
    """The ways, with graphs allowed on the CPU."""
    import device_ways as module  # type: ignore[import-not-found]

    monkeypatch.setattr(module, "_has_graphs", lambda _: None)
    return module


@pytest.fixture
def device_limits(device_steps: ModuleType) -> ModuleType:  # noqa: ARG001
    import device_limits as module  # type: ignore[import-not-found]

    return module


def small(**knobs: Any) -> ImageModel:
    config = TrainConfig(model="cnn_b", width=4, batch_size=6, optimizer="sgd", device="cpu").replace(**knobs)
    return ImageModel(config, load_splits(DataConfig(source="digits", image_size=16, channels=3, limit=60)))


def test_a_quick_run_gives_every_way_a_figure_or_a_reason(
    device_steps: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--quick", "--device", "cpu", "--nets", "cnn_128", "--out", str(tmp_path)]
    found = device_steps.main(options)
    assert list(found) == ["cnn_128, bf16", "cnn_128, fp32"]
    for name, report in found.items():
        assert [(row["slots"], row["way"]) for row in report["rows"]] == [(k, way) for k in (1, 2) for way in "abcdefg"]
        timed = {(row["slots"], row["way"]): row for row in report["rows"] if "ms" in row}
        assert set("ad") <= {way for _, way in timed}
        for (slots, way), row in timed.items():
            assert row["images_per_s"] == pytest.approx(slots * 8 / row["ms"] * 1e3)
            assert row["epoch_s"] == pytest.approx(50_000 / row["images_per_s"])
            assert row["floor_share"] == pytest.approx(report["work"]["floor_s"] / row["epoch_s"])
            assert 0 < row["floor_share"] < 1
            assert row["ratio"] == 1 if way == "a" else row["ratio"] > 0
        reasons = {(row["slots"], row["way"]): row["not_possible"] for row in report["rows"] if "not_possible" in row}
        assert all("CPU" in reasons[slots, way] for slots in (1, 2) for way in "bceg")
        assert ((2, "f") in reasons) == ("bf16" in name)  # bf16 does not get under vmap on a CPU
    assert json.loads((tmp_path / "device_steps.json").read_text()) == found
    text = (tmp_path / "device_steps.md").read_text()
    assert text.count("not run on a GPU") == 2
    assert "(c) K streams, eager, K = 1, 2: there are no CUDA streams on a CPU." in text
    assert "airbench94" in text
    assert "not run on a GPU" in capsys.readouterr().out


@pytest.mark.gpu
def test_every_way_of_a_packable_net_runs_on_a_gpu(device_steps: ModuleType) -> None:
    """Not run on a GPU so far."""
    for name, report in device_steps.main(["--quick", "--device", "cuda"]).items():
        for row in report["rows"]:
            assert row["way"] in "fg" or "ms" in row, (name, row)
            assert "ms" not in row or row["peak_bytes"] > 0


def test_a_quick_run_writes_nothing_unless_it_is_told_where(device_steps: ModuleType) -> None:
    assert device_steps.arguments(["--quick"]).out is None
    assert device_steps.arguments([]).out == BENCHMARKS / "results"


def test_other_nets_of_an_earlier_run_stay(device_steps: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: argparse.Namespace, keep: Callable[[str, Any], None]) -> None:
        for name in options.nets:
            row = {"slots": 1, "way": "a", "not_possible": f"{name} failed"}
            limit, work = {"flop_per_s": 1.0, "bytes_per_s": 1.0, "arithmetic": "fp32"}, {"floor_s": 1.0, "traffic_s": 1.0}
            host: dict[str, Any] = {"device": "d", "gpu": "g", "cuda": None, "torch": "2", "load": []}
            work |= {"flop_an_image": 1.0, "bytes_an_image": 1.0}
            told = {"command": "c", "machine": host, "net": "n", "memory_format": "contiguous"}
            keep(name, {**told, "limits": limit, "work": work, "rows": [row]})

    monkeypatch.setattr(device_steps, "run", run)
    for net in ("cnn_128", "resnet20"):
        device_steps.main(["--nets", net, "--out", str(tmp_path)])
    text = (tmp_path / "device_steps.md").read_text()
    assert "cnn_128 failed" in text and "resnet20 failed" in text


def test_the_flops_of_a_small_net_are_those_of_its_layers(device_limits: ModuleType) -> None:
    side, width, batch = 16, 4, 6
    model = small()
    images = torch.randn(batch, 3, side, side)
    # a convolution's or product's input, weights: forward, gradient of the weights, and of the input but for the images
    first = 2 * 9 * 3 * width * side**2 * 2
    second, third = (2 * 9 * i * o * (side // 2) ** 2 * 3 for i, o in ((width, 2 * width), (2 * width, 4 * width)))
    head = 2 * 4 * width * (side // 4) ** 2 * model.splits.outputs * 3
    assert device_limits.flops(model, images) == batch * (first + second + third + head)


def test_traffic_counts_what_is_read_and_written_but_no_views(device_limits: ModuleType) -> None:
    a, b = torch.ones(3, 4), torch.ones(3, 4)
    with device_limits._Traffic() as counter:
        a.t()[1:].detach()
        assert counter.bytes == 0
        torch.add(a, b)
        assert counter.bytes == 3 * a.nbytes
        torch._foreach_add_([a], [b])
        assert counter.bytes == 6 * a.nbytes


def test_a_floor_is_counted_work_over_measured_limits(device_limits: ModuleType) -> None:
    model = small()
    images, targets = torch.randn(6, 3, 16, 16), torch.zeros(6, dtype=torch.int64)
    before = torch.backends.cuda.matmul.fp32_precision
    measured = device_limits.limits("fp32", model.device, side=32, megabytes=1)
    assert measured.flops > 0 and measured.bytes > 0 and measured.arithmetic == "fp32"
    assert torch.backends.cuda.matmul.fp32_precision == before
    work = device_limits.work_of(model, images, targets, device_limits.Limits(1e9, 1e6, "fp32"))
    assert work.flop_an_image * 6 == device_limits.flops(model, images)
    assert work.floor_s == pytest.approx(50_000 * work.flop_an_image / 1e9)
    assert work.traffic_s == pytest.approx(50_000 * work.bytes_an_image / 1e6)
    parameters = sum(p.nbytes for p in model.model.parameters())
    assert work.bytes_an_image * 6 > images.nbytes + 3 * parameters


def test_ways_by_graph_replay_a_recorded_step(device_ways: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Run] = []

    def record(run: Run) -> Run:
        recorded.append(run)
        return run  # replaying is running the step again

    monkeypatch.setattr(device_ways, "capture_cuda", record)
    trials = device_ways.trials_of(small(), 3)
    for way, graphs in (("b", 3), ("e", 1), ("g", 1)):
        recorded.clear()
        step = device_ways.WAYS[way][1](trials)
        step()
        step()
        assert len(recorded) == graphs


def test_a_graph_that_computes_something_else_is_a_reason(
    device_steps: ModuleType, device_ways: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(run: Run) -> Run:
        return lambda: tuple(torch.zeros_like(output) for output in run())

    monkeypatch.setattr(device_ways, "capture_cuda", wrong)
    run, row = device_steps._made("e", device_ways.trials_of(small(), 2))
    assert run is None
    assert row["not_possible"].startswith("the graph was refused: a replayed step differs")


def test_ways_that_compute_something_else_or_do_not_fit_are_reasons(
    device_steps: ModuleType, device_ways: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> Run:
        raise torch.OutOfMemoryError("CUDA out of memory")

    mixing = device_ways.trials_of(small(model="squeezenet1_1", image_size=32, batch_size=2, dropout=0.0), 2)
    _, row = device_steps._made("d", mixing)
    assert row["not_possible"].startswith("the probe refused: ")
    monkeypatch.setitem(device_ways.WAYS, "d", ("packed", full))
    _, row = device_steps._made("d", mixing)
    assert row == {"not_possible": "out of memory"}


def test_two_steps_of_an_array_lose_what_the_models_own_steps_do(device_ways: ModuleType) -> None:
    trials = device_ways.trials_of(small(precision="fp64"), 2)
    solo = device_ways._solo_steps(trials)
    alone = [[step().losses for step in solo] for _ in range(2)]
    for build in (device_ways.pack, device_ways.stack):
        step = device_ways.array_step(trials, build)
        for expected in alone:
            _, losses, _ = step(*step.inputs(trials.images, trials.targets))
            torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-9, atol=1e-9)
