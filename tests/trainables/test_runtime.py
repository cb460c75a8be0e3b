"""Devices by name, numerics, and generators that are put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from trainables.config import TrainConfig
from trainables.runtime import (
    autocast,
    choose_device,
    make_scaler,
    place,
    seeded,
    to_cpu,
)

CPU = torch.device("cpu")


def test_auto_is_cuda_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", training=True).type == "cuda"


def test_a_device_that_is_not_here_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"train\.device: got 'cuda'.*auto.*cpu"):
        choose_device("cuda")


def test_mps_predicts_but_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps").type == "mps"
    for options in ({"precision": "fp64"}, {"training": True}):
        with pytest.raises(ValueError, match=r"train\.device: got 'mps'.*float64"):
            choose_device("mps", **options)  # type: ignore[arg-type]


def test_precision_decides_dtype_autocast_and_scaling() -> None:
    net = nn.Linear(2, 2)
    assert place(net, TrainConfig(precision="fp64"), CPU).weight.dtype == torch.float64
    assert place(nn.Linear(2, 2), TrainConfig(precision="bf16"), CPU).weight.dtype == torch.float32
    x = torch.ones(1, 2)
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        with autocast(precision, CPU):
            assert nn.functional.linear(x, torch.ones(2, 2)).dtype == dtype
        assert make_scaler(precision, CPU).is_enabled() == (precision == "fp16")


def test_channels_last_reaches_the_weights() -> None:
    conv = nn.Conv2d(3, 4, 3)
    assert not conv.weight.is_contiguous(memory_format=torch.channels_last)
    place(conv, TrainConfig(memory_format="channels_last"), CPU)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    volume = nn.Conv3d(1, 2, 3)
    before = volume.weight.clone()
    place(volume, TrainConfig(memory_format="channels_last"), CPU)  # torch has no such layout for it
    assert torch.equal(volume.weight, before)


def test_a_seeded_block_repeats_and_disturbs_no_generator() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    draws = []
    for seed, word in ((1, 0), (1, 0), (1, 1), (2, 0)):
        with seeded(seed, "dropout", word):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_the_generator_comes_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(0, "init"):
        torch.rand(1)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_copies_share_no_memory() -> None:
    tensor = torch.zeros(2)
    copied = to_cpu({"a": [tensor, 1], "b": (tensor, "x"), "c": {"d": tensor}})
    tensor += 1
    assert torch.equal(copied["a"][0], torch.zeros(2))
    assert torch.equal(copied["b"][0], torch.zeros(2))
    assert torch.equal(copied["c"]["d"], torch.zeros(2))
    assert copied["b"][1] == "x"
