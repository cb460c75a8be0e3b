"""Ensembles that cost less: which weights to average into a soup, the confidence cascade, and the Pareto front.

Only scores and probabilities are met here; averaging the tensors of a soup is the training side's work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.metrics import accuracy


def greedy_soup(scores: Sequence[float], evaluate: Callable[[tuple[int, ...]], float]) -> tuple[tuple[int, ...], float]:
    """Members to average, best first, each kept only when the soup's validation score does not fall by it.

    Model soups, Wortsman et al. (ICML 2022). Greater scores are better; never below the best member's own score.

    Args:
        scores: validation score of each member.
        evaluate: validation score of the soup of some members.
    """
    order = [int(m) for m in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")]
    soup: tuple[int, ...] = (order[0],)
    best = float(scores[order[0]])
    for member in order[1:]:
        tried = (*soup, member)
        score = evaluate(tried)
        if score >= best:
            soup, best = tried, score
    return soup, best


class Cascade(NamedTuple):
    """Predictions of a cascade, the stage that answered each row, and the mean cost of a row."""

    probs_NC: NDArray[np.float32]
    stage_N: NDArray[np.int64]
    mean_cost: float


def cascade(stages_SNC: Sequence[Floats] | Floats, costs: Sequence[float], *, threshold: float) -> Cascade:
    """Asks stage after stage until one is confident enough; the last one answers whatever is left.

    Args:
        stages_SNC: calibrated probabilities of each stage, cheapest first.
        costs: cost of running each stage on a row; a row pays for every stage that it reached.
        threshold: the least top probability that ends the cascade.
    """
    confident_SN = np.stack([probs_NC.max(axis=1) >= threshold for probs_NC in stages_SNC])
    confident_SN[-1] = True
    stage_N = confident_SN.argmax(axis=0)
    answered_NC = np.empty(stages_SNC[0].shape, dtype=np.float32)
    for stage, probs_NC in enumerate(stages_SNC):
        answered_NC[stage_N == stage] = probs_NC[stage_N == stage]
    return Cascade(answered_NC, stage_N, float(np.cumsum(costs)[stage_N].mean()))


def cascade_threshold(
    stages_SNC: Sequence[Floats] | Floats, costs: Sequence[float], labels_N: Labels, *, tolerance: float = 0.0
) -> float:
    """The cheapest threshold, among the validation confidences, that loses at most `tolerance` of the last stage's accuracy."""
    target = accuracy(stages_SNC[-1], labels_N) - tolerance
    quantiles = np.linspace(0.0, 1.0, 101)
    grid = np.unique(np.concatenate([np.quantile(p.max(axis=1), quantiles) for p in stages_SNC[:-1]] + [np.array([1.1])]))
    tried = [(cascade(stages_SNC, costs, threshold=float(t)), float(t)) for t in grid]
    enough = [(c.mean_cost, t) for c, t in tried if accuracy(c.probs_NC, labels_N) >= target]
    return min(enough)[1]


def pareto_front(scores: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Candidates that no other beats in both score (greater) and cost (less), cheapest first; one of equals stays."""
    front: list[int] = []
    best = -np.inf
    for candidate in np.lexsort((-np.asarray(scores, dtype=np.float64), np.asarray(costs, dtype=np.float64))):
        if scores[candidate] > best:
            front.append(int(candidate))
            best = scores[candidate]
    return front


def best_within(scores: Sequence[float], costs: Sequence[float], *, limit: float) -> int:
    """The candidate with the greatest score whose cost is within the limit; the cheaper of equals."""
    affordable = [c for c in pareto_front(scores, costs) if costs[c] <= limit]
    if not affordable:
        raise ValueError(f"nothing costs at most {limit:g}; the cheapest candidate costs {min(costs):g}")
    return affordable[-1]
