"""The whole ensemble as one module, uint8 images in and probabilities out, and that module as one ONNX graph.

The arithmetic is the ensemble room's, in torch: member temperature, vote, pooled temperature, calibrator.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.deliver.calibrators import PROB_FLOOR, calibrator_module

TIE_SHARE = 1e-4
"""Share of the mean probability in a hard vote: breaks ties, overturns no vote."""
EXTERNAL_DATA_BYTES = 1_500_000_000
"""Weights beyond this lie in a file beside the graph: a protobuf message ends at 2 GB."""


@dataclass(frozen=True)
class Vote:
    """How members become one prediction: voting, a weight (sum 1) and a temperature each, one temperature after."""

    voting: str
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]
    temperature: float
    head: tuple[tuple[tuple[float, ...], ...], tuple[float, ...]] | None = None
    """Coefficients [K, M * K] and intercept [K] of a linear layer on the members' log-probabilities, in the vote's place."""
    calibrator: Mapping[str, Any] | None = None
    """Numbers of vector scaling or of isotonic curves, applied last; see `calibrators.calibrator_module`."""

    @classmethod
    def from_dict(cls, ensemble: Mapping[str, Any]) -> Vote:
        """Read the plain form {"voting", "members": [{"trial_id", "weight", "temperature"}], "temperature"}.

        An optional "head" holds {"coefficients", "intercept"} of a stacked ensemble, an optional "calibrator" what comes last.
        """
        members, head = ensemble["members"], ensemble.get("head")
        total = sum(float(member["weight"]) for member in members)
        return cls(
            voting=str(ensemble["voting"]),
            weights=tuple(float(member["weight"]) / total for member in members) if total > 0 else (),
            temperatures=tuple(float(member.get("temperature", 1.0)) for member in members),
            temperature=float(ensemble.get("temperature", 1.0)),
            head=(tuple(map(tuple, head["coefficients"])), tuple(head["intercept"])) if head else None,
            calibrator=ensemble.get("calibrator"),
        )

    def __post_init__(self) -> None:
        if self.voting not in POOLS:
            raise ValueError(f"voting: got {self.voting!r}, allowed: {', '.join(POOLS)}")
        if not self.weights or min(self.weights) < 0 or not np.isfinite(self.weights).all():
            raise ValueError(f"weights: expected one number >= 0 a member with a positive sum, got {self.weights}")
        if len(self.weights) != len(self.temperatures):
            raise ValueError(f"{len(self.weights)} weights, {len(self.temperatures)} temperatures: expected one a member")
        if min(*self.temperatures, self.temperature) <= 0:
            raise ValueError(f"temperatures: expected > 0, got {self.temperatures} and {self.temperature} after pooling")


class EnsembleModule(nn.Module):
    """Members that map uint8 images [N, H, W, C] to probabilities [N, K] (regression: values [N, 1]), and their vote."""

    def __init__(self, members: Sequence[nn.Module], vote: Vote, *, regression: bool = False) -> None:
        super().__init__()
        if len(members) != len(vote.weights):
            raise ValueError(f"{len(members)} members, {len(vote.weights)} weights: expected as many")
        self.members = nn.ModuleList(members)
        self.vote = vote
        self.regression = regression
        self.head = linear_head(*vote.head) if vote.head else None
        self.calibrator = calibrator_module(vote.calibrator) if vote.calibrator else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the ensemble's probabilities [N, K]; rows sum to one."""
        predictions = [member(images) for member in self.members]
        if self.regression:
            return weighted_sum(predictions, self.vote.weights)
        tempered = [temper(p, t) for p, t in zip(predictions, self.vote.temperatures, strict=True)]
        if self.head is not None:
            pooled = torch.softmax(self.head(torch.log(torch.cat(tempered, dim=1).clamp_min(PROB_FLOOR))), dim=1)
        else:
            pooled = POOLS[self.vote.voting](tempered, self.vote.weights)
        tempered_pool = temper(pooled, self.vote.temperature)
        return tempered_pool if self.calibrator is None else self.calibrator(tempered_pool)


def linear_head(coefficients: Sequence[Sequence[float]], intercept: Sequence[float]) -> nn.Linear:
    """Return a linear layer with these coefficients [K, M * K] and intercept [K]."""
    layer = nn.Linear(len(coefficients[0]), len(intercept))
    layer.weight.data = torch.tensor(coefficients, dtype=torch.float32)
    layer.bias.data = torch.tensor(intercept, dtype=torch.float32)
    return layer.requires_grad_(False)


def temper(probabilities: Tensor, temperature: float) -> Tensor:
    """Return softmax(log p / T), [N, K]."""
    return torch.softmax(torch.log(probabilities.clamp_min(PROB_FLOOR)) / temperature, dim=1)


def weighted_sum(predictions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the sum of weight * prediction: the soft vote, and the mean for regression."""
    total = predictions[0] * weights[0]
    for prediction, weight in zip(predictions[1:], weights[1:], strict=True):
        total = total + prediction * weight
    return total


def hard_vote(predictions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the shares of the votes; a tie goes to the class with the greater mean probability."""
    classes = predictions[0].shape[1]
    votes = [nn.functional.one_hot(p.argmax(dim=1), classes).to(p.dtype) for p in predictions]
    return (weighted_sum(votes, weights) + TIE_SHARE * weighted_sum(predictions, weights)) / (1.0 + TIE_SHARE)


def log_pool(predictions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the normalised weighted geometric mean."""
    logs = [torch.log(p.clamp_min(PROB_FLOOR)) for p in predictions]
    return torch.softmax(weighted_sum(logs, weights), dim=1)


POOLS = {"soft": weighted_sum, "hard": hard_vote, "log": log_pool}


def write_onnx(module: nn.Module, path: Path, *, image_shape: tuple[int, int, int]) -> None:
    """Write the module as ONNX: "images" uint8 [N, H, W, C] -> "probabilities" [N, K], any N, no path of this machine in it."""
    example = torch.zeros((2, *image_shape), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (example,), input_names=["images"], output_names=["probabilities"],
            dynamic_shapes=({0: "batch"},), dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    _forget_sources(program.model)
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    program.save(str(path), external_data=size > EXTERNAL_DATA_BYTES)


def _forget_sources(model: Any) -> None:
    """Drop the stack traces that the exporter attaches: they name files of the machine that exported."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
    model.metadata_props.clear()


def live_probabilities(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the live module says of uint8 images [N, H, W, C]."""
    with torch.no_grad():
        found: NDArray[np.float32] = module.eval()(torch.from_numpy(np.array(images))).float().numpy()
    return found
