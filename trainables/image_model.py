"""The Trainable of image networks: data, augmentation, model, optimiser, schedule and averages put together, epoch by epoch."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.augment import parse_set
from trainables.averaging import WeightAverage
from trainables.batches import Request, Source, make_batches, ready
from trainables.compiling import as_trained
from trainables.config import TrainConfig
from trainables.contract import Metrics, NonFiniteLoss, Outcome
from trainables.data.dataset import Splits
from trainables.feature_feed import open_features
from trainables.feed import ImageFeed, training_stream
from trainables.inference import SCALE, SHIFT, InferenceModel, build_network, check_task
from trainables.keyed_dropout import StepKeys, use_keyed_dropout
from trainables.loop import Batch, StepRules, evaluate, train_epoch
from trainables.losses import build_loss
from trainables.metrics import evaluate_probabilities
from trainables.models import input_pipeline
from trainables.models.freezing import apply_depth, recalibrate_bn
from trainables.numerics import settled
from trainables.optim import build_optimizer, set_lr
from trainables.portion import choose_portion
from trainables.runtime import choose_device, make_scaler, memory_format, place, seeded, to_cpu
from trainables.schedules import Plateau, multiplier
from trainables.stopping import Patience
from trainables.tta import views

CALIBRATION_BATCHES = 50
"""At most so many training batches measure BatchNorm statistics anew."""
IN_UNITS = ("rmse", "mae")
"""Scores of a regression's training pass that carry the targets' unit."""


class ImageModel:
    """One image network in training (see `trainables.contract.Trainable`); `pipeline` is what its images go through."""

    def __init__(self, config: TrainConfig, splits: Splits) -> None:
        """Build everything from `config` and `splits`; raises ValueError naming the knob that does not fit them."""
        check_task(config, splits)
        self.splits, self.device = splits, choose_device(config.device, config.precision, training=True)
        parse_set(config.augmentation)
        self.pipeline = input_pipeline(config, splits)
        network = build_network(config, self.pipeline, outputs=splits.outputs)
        self.config = config = settled(config, network, self.pipeline, self.device)
        network = place(network, config, self.device)
        self.model = use_keyed_dropout(network).to(self.device)
        self.portion = choose_portion(config, splits, self.device)
        self.steps = self.portion.steps
        feed = ImageFeed(splits.train.images, self.device)
        stream = training_stream(splits.train, feed, workers=config.workers, batch_size=config.batch_size)
        self.feeds = {"train": feed}
        self.source = Source(config, self.portion, feed, stream, self.pipeline, len(splits.classes))
        self.features = open_features(self.model, config, splits, self.pipeline, ready=self.ready, stream=stream)
        self.network = as_trained(config, self.model, self.pipeline, self.portion, cached=self.features is not None)
        loss = build_loss(config, self.portion.targets, splits.outputs)
        self.rules = StepRules(loss, precision=config.precision, clip_norm=config.clip_norm)
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = make_scaler(config.precision, self.device)
        self.plateau, self.patience = Plateau(config), Patience(config.patience)
        self.average = None if config.average == "none" else WeightAverage(self.model, config.average, decay=config.ema_decay)
        self.epoch = 0
        self._frozen = False  # whether the stages that stay frozen are
        self._predicted: tuple[int, NDArray[np.float32]] | None = None

    def step(self) -> Outcome:
        """Train one epoch and evaluate on the validation split; raises NonFiniteLoss."""
        config, epoch = self.config, self.epoch
        if epoch >= config.epochs:
            raise ValueError(f"train.epochs: all {config.epochs} epochs are trained; raise `epochs` to train on")
        started = time.perf_counter()
        self.begin_epoch()
        keys = StepKeys(self.model, config.seed, first=epoch * self.steps, count=self.steps)
        with seeded(config.seed, "dropout", epoch, device=self.device):  # layers that are not keyed, loaders
            trained = train_epoch(
                self.features.rest if self.features else self.network,
                self.optimizer,
                self.batches(),
                rules=self.rules,
                task=config.task,
                scaler=self.scaler,
                before_step=lambda number: self._prepare_step(number, keys),
                after_step=self.after_step,
            )
            return self.finish_epoch(trained, time.perf_counter() - started)

    def begin_epoch(self) -> None:
        """Put the networks in training mode with the stages frozen that are frozen at the epoch to come."""
        for model in (self.model, self.average.model if self.average else None):
            if model is not None:
                model.train()
                if self.config.gradual_epochs or not self._frozen:
                    apply_depth(model, self.config, self.epoch)
        self._frozen = True
        if self.features and not self.features.opens("train", self.epoch):
            self.features = None

    def batches(self) -> Iterator[Batch]:
        """Yield the augmented, normalised training batches of the epoch to come (or the features that stand for them)."""
        if not self.features:
            return self._batches()
        portion = self.portion
        parts = portion.order(self.epoch)[0].tensor_split(self.steps)
        return self.features.batches(self.epoch, parts, rows=portion.rows, labels=portion.labels, aims=portion.aims)

    def _batches(self, *, mixed: bool = True) -> Iterator[Batch]:
        request = Request(self.source, self.epoch, mixed=mixed, layout=memory_format(self.config))
        return (batch for [batch] in make_batches([request]))

    def factor(self, number: int) -> float:
        """Return what a step of the epoch to come multiplies the learning rate with: schedule and plateau."""
        return multiplier(self.config, self.epoch * self.steps + number, self.steps) * self.plateau.factor

    def after_step(self) -> None:
        """Do what follows each step of the optimiser: the running average of the weights."""
        if self.average is not None and self.average.kind == "ema":
            self.average.update(self.model)

    @property
    def answers_live(self) -> bool:
        """Return whether validation is answered by the network as it stands after the epoch's last step, each image once."""
        config = self.config
        return self.average is None and config.tta == "none" and config.bn != "recalibrate" and self.features is None

    def finish_epoch(
        self, trained: Mapping[str, float], seconds: float, answers: NDArray[np.float32] | None = None, answered_in: float = 0.0
    ) -> Outcome:
        """Close an epoch whose training pass had these scores and took so long: settle weights, evaluate, report.

        `answers` are the live network's for the validation split where they were computed already, in so many seconds.
        """
        started = time.perf_counter() - answered_in
        set_lr(self.optimizer, self.config, self.factor(self.steps - 1))
        self._settle()
        self.epoch += 1
        in_units = {name: value * self.portion.scale if name in IN_UNITS else value for name, value in trained.items()}
        metrics = {f"train/{name}": value for name, value in in_units.items() if name != "grad_norm"}
        metrics["lr"] = max(float(group["lr"]) for group in self.optimizer.param_groups)
        metrics |= self._validate(answers)
        metrics |= {
            "grad_norm": trained["grad_norm"],
            "images_per_second": len(self.portion.rows) / max(seconds, 1e-9),
            "epoch_seconds": seconds + time.perf_counter() - started,
        }
        return self._outcome(metrics)

    def _prepare_step(self, number: int, keys: StepKeys) -> None:
        """Set what the step's number decides: dropout's keys and the learning rate."""
        keys.set(number)
        set_lr(self.optimizer, self.config, self.factor(number))

    def _settle(self) -> None:
        """Do what follows a training pass: SWA's update, and BatchNorm statistics measured anew where they are asked for."""
        if self.config.bn == "recalibrate":
            recalibrate_bn(self.model, self._calibration())
        if self.average is None:
            return
        if self.average.kind == "swa" and self.epoch + 1 > self.config.swa_start * self.config.epochs:
            self.average.update(self.model)
        if self.average.count:
            self.average.refresh_buffers(self.model, self._calibration())

    def ready(self, images: Tensor) -> Tensor:
        """Return float images in [0, 1] as the network takes them: size, normalisation, memory layout."""
        return ready(images, self.pipeline, memory_format(self.config))

    def _calibration(self) -> Iterator[Tensor]:
        """Yield unmixed training images of the present epoch."""
        return (batch.images for batch in itertools.islice(self._batches(mixed=False), CALIBRATION_BATCHES))

    def inference(self, tta: str | None = None) -> InferenceModel:
        """Return the live network (the averaged one where there is one) from stored images to probabilities."""
        average = self.average.model if self.average is not None and self.average.count else None
        config = self.config if tta is None else self.config.replace(tta=tta)
        shift, scale = self.portion.shift, self.portion.scale
        return InferenceModel(average or self.model, self.pipeline, config=config, shift=shift, scale=scale)

    def feed(self, split: str) -> ImageFeed:
        """Return what gives the images of a split, opened when it is first asked for."""
        if split not in self.feeds:
            self.feeds[split] = ImageFeed(self.splits.part(split).images, self.device)
        return self.feeds[split]

    def _evaluate(self, split: str, tta: str | None = None) -> NDArray[np.float32]:
        part, feed = self.splits.part(split), self.feed(split)
        module = self.inference(tta)
        if split == "val" and module.tta == "none" and self.features and self.features.opens("val"):
            return self.features.predict_val(module)
        chunks = torch.split(torch.arange(len(part)), max(1, self.config.eval_batch_size // len(views(module.tta))))
        return evaluate(module, (feed.gather(rows) for rows in chunks), precision=self.config.precision)

    def _validate(self, answers: NDArray[np.float32] | None) -> Metrics:
        """Score the validation split; with test-time augmentation also without, as "val_plain/..."."""
        targets = self.splits.val.targets
        self._predicted = (self.epoch, self._evaluate("val") if answers is None else answers)
        found = {f"val/{name}": value for name, value in evaluate_probabilities(self._predicted[1], targets).items()}
        if self.config.tta != "none":
            plain = evaluate_probabilities(self._evaluate("val", tta="none"), targets)
            found |= {f"val_plain/{name}": value for name, value in plain.items()}
        if not math.isfinite(found["val/loss"]):
            raise NonFiniteLoss(f"the validation loss became {found['val/loss']} at epoch {self.epoch}")
        return found

    def _outcome(self, metrics: Metrics) -> Outcome:
        if self.config.schedule == "plateau":
            self.plateau.update(metrics["val/loss"])
        tired = self.patience.update(metrics["val/loss"], metrics.get("val/accuracy", -math.inf))
        spent = self.epoch >= self.config.epochs
        return Outcome(self.epoch, metrics, done=spent or tired, stop_reason="budget" if spent else "patience" if tired else "")

    def predict(self, split: str) -> NDArray[np.float32]:
        """Return probabilities [N, C] (regression: values [N, 1]) of "train", "val" or "test" in dataset order."""
        if split == "val" and self._predicted is not None and self._predicted[0] == self.epoch:
            return self._predicted[1]
        return self._evaluate(split)

    def state(self) -> dict[str, Any]:
        """Return everything a later `load_state` needs to go on bit for bit; no knob of the config is in it."""
        state: dict[str, Any] = to_cpu({
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": self.scaler.state_dict(),
            "plateau": self.plateau.state(),
            "patience": self.patience.state(),
            "average": self.average.state() if self.average else {},
        })  # fmt: skip
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; rates, decay and the like stay those of this config (as PBT wants)."""
        self.epoch = int(state["epoch"])
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])
        self.plateau.load_state(state["plateau"])
        self.patience.load_state(state["patience"])
        if self.average is not None:  # a state without an average starts one at its weights
            self.average.load_state(state["average"] or {"count": 0, "model": state["model"]})
        self._predicted = None
        if self.features:
            self.features.forget()

    def weights(self) -> dict[str, Tensor]:
        """Return the inference weights (the averaged ones where there are) as name -> CPU tensor, and a regression's scale."""
        served = self.average.model if self.average is not None and self.average.count else self.model
        found = {name: value.detach().cpu().clone() for name, value in served.state_dict().items()}
        if self.config.task == "regression":
            found |= {SHIFT: torch.tensor(self.portion.shift), SCALE: torch.tensor(self.portion.scale)}
        return found
