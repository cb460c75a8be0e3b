"""A Trainable of its own kind: linear classifiers on the frozen features of a backbone, another one at each step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.augment import to_float
from trainables.config import TrainConfig
from trainables.contract import Outcome
from trainables.data.dataset import Splits
from trainables.data.rows import rows_of
from trainables.feed import ImageFeed
from trainables.inference import InferenceModel, build_network, check_task, prepare
from trainables.linear_head import LinearHead, fit_head
from trainables.loop import evaluate
from trainables.metrics import evaluate_probabilities
from trainables.models import input_pipeline
from trainables.models.stages import last_layer
from trainables.numerics import settled
from trainables.runtime import choose_device, parameter_dtype, place, to_cpu
from trainables.tta import views

HEADS: tuple[tuple[str, float], ...] = (
    ("logistic", 0.1), ("svm", 0.01), ("logistic", 0.01), ("svm", 0.001), ("logistic", 1.0), ("svm", 0.1),
)  # fmt: skip
"""(kind, C) of each step: the best kept epoch names the classifier, so `epochs` is how many are tried."""


class LightClassifier:
    """Logistic regressions and linear SVMs on what reaches the last layer of the network `config.model` with its weights.

    The fitted classifier becomes the network's last layer, so its weights are served and exported like any other member's.
    The knobs felt are model, weights, image_size, precision, class_weights, rows, tta, epochs and seed.
    """

    def __init__(self, config: TrainConfig, splits: Splits) -> None:
        """Build the backbone; raises ValueError for regression, and for a network whose last layer is not linear."""
        check_task(config, splits)
        if config.task != "classification":
            raise ValueError("train.task: got 'regression', a light classifier allows: classification")
        self.splits, self.device = splits, choose_device(config.device, config.precision)
        self.pipeline = input_pipeline(config, splits)
        network = build_network(config, self.pipeline, outputs=splits.outputs)
        self.config = config = settled(config, network, self.pipeline, self.device, trained=False).replace(compile="off")
        self.model = place(network, config, self.device).eval()
        last = self.model.get_submodule(last_layer(self.model))
        if not isinstance(last, nn.Linear):
            raise ValueError(f"train.model: {config.model} ends in a {type(last).__name__}, a light classifier needs a Linear")
        self.last: nn.Linear = last
        self.rows = rows_of(config, splits.train.targets)
        self.targets = splits.train.targets[self.rows].astype(np.int64)
        self.epoch = 0
        self._features: NDArray[np.float64] | None = None

    def step(self) -> Outcome:
        """Fit the next classifier of `HEADS` and evaluate it on the validation split."""
        steps = min(self.config.epochs, len(HEADS))
        if self.epoch >= steps:
            raise ValueError(f"train.epochs: all {steps} classifiers are fitted")
        started = time.perf_counter()
        (kind, strength), features = HEADS[self.epoch], self.features()
        head = fit_head(
            features,
            self.targets,
            classes=self.splits.outputs,
            kind=kind,
            strength=strength,
            balanced=self.config.class_weights == "balanced",
            seed=self.config.seed,
        )
        self._install(head)
        self.epoch += 1
        seconds = time.perf_counter() - started
        trained = evaluate_probabilities(head.probabilities(features), self.targets)
        metrics = {f"train/{name}": trained[name] for name in ("loss", "accuracy", "log_loss", "brier", "ece")}
        found = evaluate_probabilities(self.predict("val"), self.splits.val.targets)
        metrics |= {f"val/{name}": value for name, value in found.items()}
        metrics |= {"head/svm": float(kind == "svm"), "head/strength": strength}
        metrics |= {
            "images_per_second": len(self.rows) / max(seconds, 1e-9),
            "epoch_seconds": time.perf_counter() - started,
        }
        done = self.epoch == steps
        return Outcome(self.epoch, metrics, done=done, stop_reason="budget" if done else "")

    def features(self) -> NDArray[np.float64]:
        """Return what reaches the last layer for the training rows, [N, F], computed once."""
        if self._features is None:
            probe = _Features(self.model, self.last, self.config)
            feed = ImageFeed(self.splits.train.images, self.device)
            chunks = torch.split(torch.from_numpy(self.rows), self.config.eval_batch_size)
            batches = (prepare(to_float(feed.gather(rows), dtype=probe.dtype), self.pipeline) for rows in chunks)
            self._features = evaluate(probe, batches, precision=self.config.precision).astype(np.float64)
        return self._features

    def _install(self, head: LinearHead) -> None:
        """Make the classifier the network's last layer."""
        with torch.no_grad():
            self.last.weight.copy_(torch.from_numpy(head.weight))
            self.last.bias.copy_(torch.from_numpy(head.bias))

    def inference(self) -> InferenceModel:
        """Return the network with the present classifier, from stored images to probabilities."""
        return InferenceModel(self.model, self.pipeline, config=self.config)

    def predict(self, split: str) -> NDArray[np.float32]:
        """Return probabilities [N, C] of "train", "val" or "test" in dataset order."""
        part = self.splits.part(split)
        feed = ImageFeed(part.images, self.device)
        size = max(1, self.config.eval_batch_size // len(views(self.config.tta)))
        batches: Iterator[Tensor] = (feed.gather(rows) for rows in torch.split(torch.arange(len(part)), size))
        return evaluate(self.inference(), batches, precision=self.config.precision)

    def state(self) -> dict[str, Any]:
        """Return the step reached and its classifier; the backbone follows from the config."""
        state: dict[str, Any] = to_cpu({"epoch": self.epoch, "head": self.last.state_dict()})
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.epoch = int(state["epoch"])
        self.last.load_state_dict(state["head"])

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights with the classifier in place, as name -> CPU tensor."""
        found: dict[str, Tensor] = to_cpu(dict(self.model.state_dict()))
        return found


class _Features(nn.Module):
    """The network up to its last layer: images -> what that layer is given."""

    def __init__(self, model: nn.Module, last: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.last, self.dtype = model, last, parameter_dtype(config.precision)

    def forward(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self.last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.model(images)
        finally:
            hook.remove()
        return seen[0]
