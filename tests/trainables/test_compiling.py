"""Compiling: when it pays, that it computes the same, how often it happens, where its results lie, and what failing does."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import compiling
from trainables.compiling import LONG, MARGIN, VARIABLE, Compiled, repaid_after, share_compiled
from trainables.config import TrainConfig
from trainables.data import DataConfig, Splits, load_splits
from trainables.image_model import ImageModel
from trainables.numerics import PAYS

BASE = TrainConfig(model="cnn_b", width=4, epochs=2, batch_size=16, dropout=0.3, average="ema", device="cpu")
STEPS = 10
"""Of two epochs of 69 rows: four batches of 14 and one of 13 each."""


@pytest.fixture(scope="module")
def splits() -> Splits:
    found = load_splits(DataConfig(source="digits", limit=100))
    return dataclasses.replace(found, train=found.train.take(np.arange(69)))


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the variable be put back as it was, and no test find what another has compiled."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.setenv(VARIABLE, default_cache_dir())
    yield
    torch.compiler.reset()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count what is compiled: traced as ever, and run by torch's own kernels, so that it takes no C++ compiler."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    return counter


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Let a test say how long a step takes, and after how many steps compiling is repaid; nothing is compiled."""
    said = {"eager step": 2 * LONG / STEPS, "compiled step": 0.5 * STEPS / MARGIN}
    asked: dict[str, float] = {}

    def known(words: tuple[object, ...], measure: Callable[[], float]) -> tuple[float, bool]:  # noqa: ARG001
        asked[str(words[0])] = said[str(words[0])]
        return said[str(words[0])], True

    monkeypatch.setattr(compiling, "remembered_gain", known)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    said |= {"asked": asked}  # type: ignore[dict-item]
    return said


def test_it_is_repaid_once_the_steps_have_saved_what_it_costs() -> None:
    assert repaid_after(0.3, 0.2, 5.0) == pytest.approx(50)
    assert repaid_after(0.12, 0.1, 1.0) == pytest.approx(50)
    assert repaid_after(0.2, 0.3, 5.0) == math.inf
    assert repaid_after(0.1 * (PAYS - 0.01), 0.1, 0.0001) == math.inf  # too near to 1 to be believed


@pytest.mark.parametrize(
    ("eager", "after", "verdict", "asked"),
    [
        (2 * LONG / STEPS, 0.5 * STEPS / MARGIN, "on", 2),
        (2 * LONG / STEPS, 1.5 * STEPS / MARGIN, "off", 2),
        (2 * LONG / STEPS, math.inf, "off", 2),
        (0.5 * LONG / STEPS, 0.5 * STEPS / MARGIN, "off", 1),  # too short: what compiling would bring is not asked
    ],
)
def test_auto_compiles_where_a_long_trial_saves_enough(
    splits: Splits, times: dict[str, Any], eager: float, after: float, verdict: str, asked: int
) -> None:
    times |= {"eager step": eager, "compiled step": after}
    model = ImageModel(BASE.replace(compile="auto"), splits)
    assert model.config.compile == "auto"
    assert isinstance(model.network, Compiled) == (verdict == "on")
    assert len(times["asked"]) == asked


def test_cached_features_win_over_auto(splits: Splits, times: dict[str, Any]) -> None:
    model = ImageModel(BASE.replace(compile="auto", finetune_depth="head"), splits)
    assert model.features is not None
    assert (model.network, times["asked"]) == (model.model, {})


def test_the_averaged_and_the_evaluated_network_are_not_compiled(splits: Splits, counted: Any) -> None:
    model = ImageModel(BASE.replace(compile="on"), splits)
    model.step()
    before = counted.frame_count
    model.predict("test")
    assert counted.frame_count == before
    assert model.average is not None
    assert not [
        part for net in (model.average.model, model.inference().network) for part in net.modules() if part is model.network
    ]


@pytest.mark.parametrize("change", [{"dropout2d": 0.2}, {"model": "cifar_resnet", "depth": 8, "drop_path": 0.2}])
def test_epochs_of_two_batch_sizes_compile_once_and_compute_the_same(
    splits: Splits, counted: Any, change: dict[str, Any]
) -> None:
    plain = _trained(BASE.replace(**change), splits)
    compiled = _trained(BASE.replace(compile="on", **change), splits)
    assert isinstance(compiled.network, Compiled)
    assert counted.frame_count == 1
    _same(plain, compiled)
    _trained(BASE.replace(compile="on", seed=1, lr=0.01, batch_size=12, **change), splits)  # the process's next trial
    assert counted.frame_count == 1


def test_stages_that_thaw_compile_once_each(splits: Splits, counted: Any) -> None:
    change: dict[str, Any] = {"gradual_epochs": 1, "epochs": 3}
    compiled = _trained(BASE.replace(compile="on", **change), splits)
    assert counted.frame_count <= 3
    _same(_trained(BASE.replace(**change), splits), compiled)


def test_the_first_timing_is_remembered_and_compiles_twice(
    splits: Splits, counted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "LONG", 0.0)
    monkeypatch.setattr(compiling, "repaid_after", lambda *seconds: 1e-9 if min(seconds) > 0 else math.inf)
    first = ImageModel(BASE.replace(compile="auto"), splits)
    assert isinstance(first.network, Compiled)
    assert counted.frame_count == 2  # cold, and once more as in a new process
    torch.compiler.reset()
    assert isinstance(ImageModel(BASE.replace(compile="auto"), splits).network, Compiled)
    assert counted.frame_count == 3
    plain = ImageModel(BASE, splits)
    assert first.step().metrics["train/loss"] == pytest.approx(plain.step().metrics["train/loss"], abs=1e-6)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch's compiler fail as it does where there is no C++ compiler."""

    def backend(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand more of it")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))


@pytest.mark.usefixtures("broken")
def test_a_compiler_that_fails_leaves_auto_off_with_one_line(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "LONG", 0.0)
    with caplog.at_level(logging.WARNING, logger=compiling.__name__):
        model = ImageModel(BASE.replace(compile="auto"), splits)
    assert [record.getMessage().partition("(")[0] for record in caplog.records] == ["compile: cnn_b is not compiled "]
    assert model.network is model.model
    model.step()


@pytest.mark.usefixtures("broken")
def test_a_compiler_that_fails_where_it_is_asked_for_says_what_to_do(splits: Splits) -> None:
    with pytest.raises(ValueError, match=r"train\.compile: got 'on'.*cnn_b.*set train\.compile to off"):
        ImageModel(BASE.replace(compile="on"), splits)


def test_compiled_code_that_is_wrong_is_not_used(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network(images) * 1.01
            return found

    monkeypatch.setattr(compiling, "Compiled", Wrong)
    with pytest.raises(ValueError, match="compiled, its outputs are others"):
        ImageModel(BASE.replace(compile="on"), splits)
    model = ImageModel(BASE, splits)
    model.model.head.append(nn.Dropout(0.5))  # draws of its own: nothing to compare
    network = compiling.as_trained(BASE.replace(compile="on"), model.model, model.pipeline, model.portion, cached=False)
    assert isinstance(network, Wrong)


def test_memory_that_does_not_suffice_is_said_as_such(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", full)
    with pytest.raises(torch.OutOfMemoryError):
        ImageModel(BASE.replace(compile="on"), splits)


def test_processes_of_a_node_share_a_folder_unless_the_user_names_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    share_compiled()
    assert Path(cache_dir()).parent == tmp_path / "orchestrate" / "compiled"  # torch itself, asked afterwards
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    share_compiled()
    assert cache_dir() == str(tmp_path / "mine")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_compiled_code_trains_as_torchs_own_kernels_do(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str, close: float
) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counters.clear()
    config = BASE.replace(precision=precision, dropout2d=0.2)
    compiled = _trained(config.replace(compile="on"), splits)
    assert counters["stats"]["unique_graphs"] == 1
    assert list((tmp_path / "orchestrate" / "compiled").glob("*/*/*.so"))
    _same(_trained(config, splits), compiled, close)


def _trained(config: TrainConfig, splits: Splits) -> ImageModel:
    model = ImageModel(config, splits)
    while not model.step().done:
        pass
    return model


def _same(one: ImageModel, other: ImageModel, close: float = 1e-5) -> None:
    np.testing.assert_allclose(one.predict("val"), other.predict("val"), atol=close)
    for name, value in one.weights().items():
        torch.testing.assert_close(other.weights()[name], value, atol=close, rtol=close)
