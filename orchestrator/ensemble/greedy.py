"""Greedy forward selection with replacement (Caruana et al., ICML 2004) for any metric.

The weights equal those of AutoGluon's `EnsembleSelection`, tie rule included: scores are rounded to six decimals after
the first pick, members already chosen win ties, then log-loss (its "second_metric"), then a seeded draw; the ensemble
is cut at its best size. For log-loss it needs only the true-class matrix [M, N], which makes it hundreds of times
faster than scoring [N, C] arrays; `tempered` holds the objective of a pool that is calibrated after. A diversity weight
d adds d times the ambiguity (mean member error minus ensemble error) to the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Ints, Labels
from orchestrator.ensemble.metrics import log_loss

_EPS = float(np.finfo(np.float64).eps)
_SEGMENTS = 16
_BLOCK_BYTES = 1 << 20
_DECIMALS = 6


class GreedyResult(NamedTuple):
    """Weights over the M candidates, the error after each pick, and the picks in order."""

    weights_M: NDArray[np.float64]
    trajectory: tuple[float, ...]
    picks: tuple[int, ...]


class Objective(Protocol):
    """The error of the running mean after one more member, for every candidate at once."""

    def errors(self) -> NDArray[np.float64]:
        """Error of (chosen so far + candidate) / (count + 1), [M]."""
        ...

    def tie_errors(self, candidates: Ints) -> NDArray[np.float64]:
        """The second criterion for some candidates, [len(candidates)]."""
        ...

    def add(self, member: int) -> None:
        """Takes a member into the running mean."""
        ...


class TrueClassLogLoss:
    """Log-loss from the true-class matrix [M, N]: the mean log of a mean needs no other class.

    Logs are taken of products of 16 probabilities, each at least 2e-16, so that a product stays in float64's range.
    """

    def __init__(self, target_MN: Floats) -> None:
        self.n_members, self.n_rows = target_MN.shape
        padding = -self.n_rows % _SEGMENTS
        self.target_MN = np.pad(target_MN, ((0, 0), (0, padding)))
        self.sum_N = np.concatenate([np.zeros(self.n_rows), np.ones(padding)])
        self.padding = padding
        self.count = 0

    def errors(self) -> NDArray[np.float64]:
        """Mean negative log of the running mean with each candidate added, [M]."""
        width = self.target_MN.shape[1]
        block = max(1, _BLOCK_BYTES // (8 * width))
        errors_M = np.empty(self.n_members)
        buffer = np.empty((block, width))
        floor = _EPS * (self.count + 1)
        for start in range(0, self.n_members, block):
            rows = self.target_MN[start : start + block]
            sums = buffer[: len(rows)]
            np.add(rows, self.sum_N, out=sums)
            np.maximum(sums, floor, out=sums)
            errors_M[start : start + block] = _sum_of_logs(sums)
        errors_M /= -self.n_rows
        errors_M += np.log(self.count + 1)
        return errors_M

    def tie_errors(self, candidates: Ints) -> NDArray[np.float64]:
        """No second criterion: log-loss is the first."""
        return np.zeros(len(candidates))

    def add(self, member: int) -> None:
        """Adds the member's true-class probabilities to the running sum."""
        self.sum_N += self.target_MN[member]
        self.count += 1


def _sum_of_logs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the logs of each row [B, width], by products over 16 contiguous segments (16 times fewer logs)."""
    parts = values.reshape(len(values), _SEGMENTS, -1)
    products: NDArray[np.float64] = parts[:, 0].copy()
    for segment in range(1, _SEGMENTS):
        products *= parts[:, segment]
    summed: NDArray[np.float64] = np.log(products).sum(axis=1)
    return summed


class Accuracy:
    """Error rate of the running mean, with rows left out that no single member can turn any more.

    One more member moves the difference of two classes' sums by at most one, so a row where another class leads the
    label by more than one stays wrong, and a row where the label leads by more than one stays right.
    """

    def __init__(self, members: Sequence[Floats], labels_N: Labels) -> None:
        self.members, self.labels_N = members, labels_N
        self.sum_NC: NDArray[np.float64] = np.zeros(np.shape(members[0]))
        self.count = 0

    def errors(self) -> NDArray[np.float64]:
        """One minus the accuracy with each candidate added, [M]; rows in blocks that stay in the processor's cache."""
        lead_N = self._lead_of_others()
        rows = np.flatnonzero(np.abs(lead_N) <= 1.0 + 1e-6)
        correct_M = np.full(len(self.members), int(np.count_nonzero(lead_N < -1.0 - 1e-6)))
        block = max(1, _BLOCK_BYTES // (8 * self.sum_NC.shape[1]))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            sums_BC, labels_B = self.sum_NC[part], self.labels_N[part]
            tried_BC = np.empty_like(sums_BC)
            for m, member in enumerate(self.members):
                np.add(sums_BC, member[part], out=tried_BC)
                correct_M[m] += np.count_nonzero(tried_BC.argmax(axis=1) == labels_B)
        return 1.0 - correct_M / len(self.labels_N)

    def tie_errors(self, candidates: Ints) -> NDArray[np.float64]:
        """Log-loss with each of some candidates added."""
        scale = 1.0 / (self.count + 1)
        return np.array([log_loss((self.sum_NC + self.members[m]) * scale, self.labels_N) for m in candidates])

    def add(self, member: int) -> None:
        """Adds the member's probabilities to the running sum."""
        self.sum_NC += self.members[member]
        self.count += 1

    def _lead_of_others(self) -> NDArray[np.float64]:
        """Greatest sum among the other classes minus the label's, [N]."""
        rows_N = np.arange(len(self.labels_N))
        others_NC = self.sum_NC.copy()
        others_NC[rows_N, self.labels_N] = -np.inf
        lead_N: NDArray[np.float64] = others_NC.max(axis=1) - self.sum_NC[rows_N, self.labels_N]
        return lead_N


class AnyError:
    """Any error function of (mean prediction [N, C], labels [N]); one evaluation a candidate and step."""

    def __init__(self, members: Sequence[Floats], labels_N: Labels, error: Callable[[Floats, Labels], float]) -> None:
        self.members, self.labels_N, self.error = members, labels_N, error
        self.sum_NC: NDArray[np.float64] = np.zeros(np.shape(members[0]))
        self.count = 0

    def errors(self) -> NDArray[np.float64]:
        """The error with each candidate added, [M]."""
        scale = 1.0 / (self.count + 1)
        return np.array([self.error((self.sum_NC + member) * scale, self.labels_N) for member in self.members])

    def tie_errors(self, candidates: Ints) -> NDArray[np.float64]:
        """Log-loss with each of some candidates added; nothing for regression."""
        if self.sum_NC.shape[1] == 1:
            return np.zeros(len(candidates))
        scale = 1.0 / (self.count + 1)
        return np.array([log_loss((self.sum_NC + self.members[m]) * scale, self.labels_N) for m in candidates])

    def add(self, member: int) -> None:
        """Adds the member's predictions to the running sum."""
        self.sum_NC += self.members[member]
        self.count += 1


def greedy_selection(
    objective: Objective, *, n_members: int, iterations: int = 25, seed: int = 0, diversity: float = 0.0
) -> GreedyResult:
    """Adds, `iterations` times, the member that makes the error least; members may come again.

    Args:
        objective: a fresh one of this module's.
        n_members: number of candidates.
        iterations: most picks; the ensemble is cut where the error was least.
        seed: decides ties that nothing else decides.
        diversity: weight of the ambiguity; 0 is plain selection.
    """
    rng = np.random.RandomState(seed)
    picks: list[int] = []
    trajectory: list[float] = []
    decimals = None
    own_errors_M = np.zeros(n_members)
    for step in range(iterations):
        errors_M = objective.errors()
        if diversity > 0:
            own_errors_M = errors_M.copy() if step == 0 else own_errors_M
            members_mean_M = (own_errors_M[picks].sum() + own_errors_M) / (step + 1)
            errors_M = (1.0 + diversity) * errors_M - diversity * members_mean_M
        if decimals is not None:
            errors_M = errors_M.round(decimals)
        pick = _pick(errors_M, objective, picks, rng)
        if step == 0 and abs(errors_M[pick]) > 1e-4:
            decimals = _DECIMALS
        error = float(errors_M[pick]) if decimals is None else round(float(errors_M[pick]), decimals)
        picks.append(pick)
        trajectory.append(error)
        if n_members == 1:
            break
        objective.add(pick)
    size = int(np.argmin(trajectory)) + 1
    weights_M = np.bincount(picks[:size], minlength=n_members) / size
    return GreedyResult(weights_M, tuple(trajectory[:size]), tuple(picks[:size]))


def _pick(errors_M: NDArray[np.float64], objective: Objective, picks: list[int], rng: np.random.RandomState) -> int:
    """The best candidate; among equals one already chosen, then the second criterion, then a seeded draw."""
    equal = _least(errors_M)
    if len(equal) > 1 and picks:
        chosen = equal[np.isin(equal, picks)]
        equal = chosen if len(chosen) else equal
    if len(equal) > 1:
        equal = equal[_least(objective.tie_errors(equal))]
    return int(rng.choice(equal))


def _least(errors: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.isclose(errors, np.nanmin(errors), atol=0.0, rtol=1e-12))


def bagged_greedy(
    objective_of: Callable[[NDArray[np.int64]], Objective],
    *,
    n_members: int,
    bags: int,
    fraction: float = 0.5,
    iterations: int = 25,
    seed: int = 0,
    diversity: float = 0.0,
) -> GreedyResult:
    """Mean weights of selections from random halves of the candidates, against over-fitting small validation sets.

    Args:
        objective_of: makes a fresh objective of some candidates.
        bags: number of random subsets.
        fraction: share of the candidates in each.
    """
    rng = np.random.default_rng(seed)
    size = max(1, round(fraction * n_members))
    weights_M = np.zeros(n_members)
    for bag in range(bags):
        subset = np.sort(rng.choice(n_members, size, replace=False))
        result = greedy_selection(
            objective_of(subset), n_members=size, iterations=iterations, seed=seed + bag, diversity=diversity
        )
        weights_M[subset] += result.weights_M / bags
    return GreedyResult(weights_M, (), tuple(int(m) for m in np.argsort(-weights_M) if weights_M[m] > 0))
