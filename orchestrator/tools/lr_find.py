"""The learning-rate range test on an experiment's baseline: a fresh model, rates from low to high, its curve and figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config
from orchestrator.setup.check import load_data
from trainables.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainables.image_model import ImageModel
    from trainables.loop import Batch
    from trainables.lr_find import LrCurve


def find_lr(experiment: Experiment, *, low: float = 1e-6, high: float = 1.0, steps: int = 100) -> LrCurve:
    """Train a fresh baseline for at most `steps` batches at rising rates and return the curve; raises UserError."""
    from trainables.image_model import ImageModel
    from trainables.lr_find import lr_range_test

    config = TrainConfig.from_dict(baseline_config(experiment)).replace(
        lr=1.0, average="none", schedule="constant", compile="off"
    )
    try:
        model = ImageModel(config, load_data(experiment))
        return lr_range_test(stepper(model), low=low, high=high, steps=steps)
    except ValueError as error:
        raise UserError(str(error)) from error


def stepper(model: ImageModel) -> Callable[[float], float]:
    """Return a function that trains a model of `lr` 1 on its next batch at the rate given and returns the loss before."""
    from trainables.keyed_dropout import set_keys
    from trainables.loop import train_step
    from trainables.optim import set_lr

    batches = enumerate(_endless(model))

    def step(rate: float) -> float:
        number, batch = next(batches)
        set_keys(model.model, model.config.seed, number)
        set_lr(model.optimizer, model.config, rate)
        network = model.features.rest if model.features else model.network
        found = train_step(
            network, model.optimizer, batch.images, batch.targets, rules=model.rules, scaler=model.scaler
        )  # fmt: skip
        return float(found.losses.mean())

    return step


def _endless(model: ImageModel) -> Iterator[Batch]:
    """Yield the batches of one epoch after another."""
    while True:
        model.begin_epoch()
        yield from model.batches()
        model.epoch += 1


def lr_figure(curve: LrCurve) -> Figure:
    """Return the loss against the rate, with the suggestion where the loss falls fastest."""
    from orchestrator.report.canvas import BLUE, GREY, ORANGE, new_figure

    figure, (axes,) = new_figure(width=6.5)
    axes.plot(curve.rates, curve.losses, color=GREY, linewidth=0.8, label="loss of each batch")
    axes.plot(curve.rates, curve.smoothed, color=BLUE, label="smoothed")
    if curve.suggestion is not None:
        axes.axvline(curve.suggestion, color=ORANGE, linestyle="--", label=f"suggestion {curve.suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False)
    return figure


def lr_facts(curve: LrCurve) -> dict[str, Any]:
    """Return the JSON-ready form."""
    return {"suggestion": curve.suggestion, "rates": curve.rates, "losses": curve.losses, "smoothed": curve.smoothed}
