"""Every schedule equals torch's own scheduler value for value, and answers any step without having seen those before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torchs

from trainables.config import CHOICES, TrainConfig
from trainables.schedules import Plateau, multiplier

PER_EPOCH, EPOCHS = 5, 12
TOTAL = PER_EPOCH * EPOCHS
BATCHWISE = ("cosine", "cosine_restarts", "onecycle", "cyclic", "linear")

KNOBS: dict[str, dict[str, object]] = {
    "constant": {},
    "plateau": {},
    "step": {"step_epochs": 3, "gamma": 0.5},
    "multistep": {"step_epochs": 6, "gamma": 0.2},
    "exponential": {"gamma": 0.8},
    "cosine": {"min_lr_ratio": 0.05},
    "cosine_restarts": {"cycle_epochs": 2, "cycle_mult": 2, "min_lr_ratio": 0.1},
    "onecycle": {"pct_start": 0.25, "max_lr_ratio": 20.0, "min_lr_ratio": 0.01},
    "cyclic": {"cycle_epochs": 4, "max_lr_ratio": 8.0},
    "linear": {"min_lr_ratio": 0.1},
}
TORCH: dict[str, Callable[[Optimizer], torchs.LRScheduler]] = {
    "constant": lambda o: torchs.ConstantLR(o, 1.0),
    "plateau": lambda o: torchs.ConstantLR(o, 1.0),
    "step": lambda o: torchs.StepLR(o, 3, gamma=0.5),
    "multistep": lambda o: torchs.MultiStepLR(o, [6, 9], gamma=0.2),
    "exponential": lambda o: torchs.ExponentialLR(o, 0.8),
    "cosine": lambda o: torchs.CosineAnnealingLR(o, TOTAL, eta_min=0.05),
    "cosine_restarts": lambda o: torchs.CosineAnnealingWarmRestarts(o, 2 * PER_EPOCH, 2, eta_min=0.1),
    "onecycle": lambda o: torchs.OneCycleLR(
        o, 1.0, TOTAL, pct_start=0.25, div_factor=20, final_div_factor=5, cycle_momentum=False
    ),
    "cyclic": lambda o: torchs.CyclicLR(o, 1 / 8, 1.0, step_size_up=2 * PER_EPOCH, cycle_momentum=False),
    "linear": lambda o: torchs.LinearLR(o, 1.0, 0.1, total_iters=TOTAL),
}


def _config(schedule: str, **knobs: object) -> TrainConfig:
    return TrainConfig.from_dict({"schedule": schedule, "epochs": EPOCHS, **KNOBS[schedule], **knobs})


def _ours(config: TrainConfig, steps: int = TOTAL) -> list[float]:
    return [multiplier(config, step, PER_EPOCH) for step in range(steps)]


def _torchs(build: Callable[[Optimizer], torchs.LRScheduler], *, batchwise: bool) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, values = build(optimizer), []
    for step in range(TOTAL):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if batchwise or step % PER_EPOCH == PER_EPOCH - 1:
            scheduler.step()
    return values


def test_every_schedule_is_covered() -> None:
    assert set(KNOBS) == set(TORCH) == set(CHOICES["schedule"])


@pytest.mark.parametrize("schedule", KNOBS)
def test_equals_torch(schedule: str) -> None:
    assert _ours(_config(schedule)) == pytest.approx(_torchs(TORCH[schedule], batchwise=schedule in BATCHWISE), abs=1e-9)


@pytest.mark.parametrize("schedule", KNOBS)
def test_is_a_pure_function_of_the_step(schedule: str) -> None:
    config = _config(schedule, warmup_epochs=1)
    forward = _ours(config)
    assert [multiplier(config, step, PER_EPOCH) for step in reversed(range(TOTAL))] == forward[::-1]
    assert all(0 <= value <= 1 for value in forward)


def test_warmup_then_cosine_equals_torchs_sequence() -> None:
    warm = 2 * PER_EPOCH

    def build(optimizer: Optimizer) -> torchs.LRScheduler:
        ramp = torchs.LinearLR(optimizer, 1 / warm, 1.0, total_iters=warm - 1)
        cosine = torchs.CosineAnnealingLR(optimizer, TOTAL - warm, eta_min=0.05)
        return torchs.SequentialLR(optimizer, [ramp, cosine], milestones=[warm])

    expected = _torchs(build, batchwise=True)
    assert _ours(_config("cosine", warmup_epochs=2)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("schedule", "knob", "value"),
    [
        ("step", "step_epochs", 4), ("step", "gamma", 0.3), ("multistep", "step_epochs", 4), ("exponential", "gamma", 0.5),
        ("cosine", "min_lr_ratio", 0.2), ("cosine", "warmup_epochs", 2), ("cosine", "epochs", 20),
        ("constant", "warmup_epochs", 1),
        ("cosine_restarts", "cycle_epochs", 3), ("cosine_restarts", "cycle_mult", 1), ("onecycle", "pct_start", 0.5),
        ("onecycle", "max_lr_ratio", 5.0), ("onecycle", "min_lr_ratio", 0.2), ("cyclic", "cycle_epochs", 3),
        ("cyclic", "max_lr_ratio", 3.0), ("linear", "min_lr_ratio", 0.5), ("step", "min_lr_ratio", 0.3),
    ],
)  # fmt: skip
def test_every_knob_acts(schedule: str, knob: str, value: object) -> None:
    assert _ours(_config(schedule)) != _ours(_config(schedule, **{knob: value}))


def test_nothing_rises_again_after_the_end_of_the_run() -> None:
    for schedule in ("cosine", "linear", "onecycle"):
        config = _config(schedule)
        assert multiplier(config, TOTAL + 7, PER_EPOCH) == pytest.approx(config.min_lr_ratio)


def test_short_runs_have_no_division_by_zero() -> None:
    for schedule in KNOBS:
        for epochs, per_epoch in ((1, 1), (1, 3), (2, 1)):
            values = [multiplier(_config(schedule, epochs=epochs), s, per_epoch) for s in range(epochs * per_epoch + 2)]
            assert all(0 <= v <= 1 for v in values), (schedule, values)


def test_plateau_equals_torchs() -> None:
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.8999999, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.5, 0.6, 0.6, 0.6, 0.6]
    config = _config("plateau", plateau_patience=2, gamma=0.5, min_lr_ratio=0.1)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torchs.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, min_lr=0.1)
    ours, plateau = [], Plateau(config)
    expected = []
    for loss in losses:
        scheduler.step(loss)
        expected.append(float(optimizer.param_groups[0]["lr"]))
        ours.append(plateau.update(loss))
    assert ours == pytest.approx(expected)
    assert len(set(ours)) > 2


def test_plateau_goes_on_from_its_state() -> None:
    config = _config("plateau", plateau_patience=1, gamma=0.5)
    whole, half = Plateau(config), Plateau(config)
    for loss in (1.0, 1.0):
        whole.update(loss)
        half.update(loss)
    resumed = Plateau(config)
    resumed.load_state(half.state())
    assert [resumed.update(1.0) for _ in range(4)] == [whole.update(1.0) for _ in range(4)]
