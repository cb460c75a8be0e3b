"""Out-of-bag estimates: every row predicted by those members alone whose training bag did not hold it (Breiman, 1996).

A bootstrap bag leaves out (1 - 1/n)^n of the rows, 36.8 % for large n; k folds leave out 1/k each. Drawing the bags is
the training side's work; here is what becomes of the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Bools, Floats, Ints, Labels, Members, Predictions
from orchestrator.ensemble.gate import Interval, paired_difference
from orchestrator.ensemble.metrics import METRICS


@dataclass(frozen=True)
class OutOfBag:
    """Mean prediction of each row over the members that did not train on it."""

    preds_NC: NDArray[np.float32]
    """NaN in rows that every member trained on."""
    voters_N: NDArray[np.int64]
    """Members that each row was out of bag for."""

    @property
    def covered_N(self) -> Bools:
        """Rows with at least one voter."""
        covered: Bools = self.voters_N > 0
        return covered

    @property
    def uncovered(self) -> NDArray[np.int64]:
        """Rows that no member left out; they have no estimate."""
        return np.flatnonzero(self.voters_N == 0)

    def score(self, metric: str, labels_N: Labels) -> float:
        """A metric on the covered rows."""
        if not self.covered_N.any():
            raise ValueError("no row is out of bag for any member: train on fewer rows, or add members")
        return METRICS[metric].function(self.preds_NC[self.covered_N], labels_N[self.covered_N])


def in_bag_mask(bags: list[Ints], n_rows: int) -> Bools:
    """Which rows each member trained on [M, N], from the row indices (repeats allowed) of each bag."""
    in_bag_MN = np.zeros((len(bags), n_rows), dtype=np.bool_)
    for member, rows in enumerate(bags):
        in_bag_MN[member, rows] = True
    return in_bag_MN


def out_of_bag(predictions: Predictions | Members, in_bag_MN: Bools) -> OutOfBag:
    """Averages predictions [M, N, C] on the training rows over the members that did not see each row."""
    members = Members.of(predictions)
    shape = members.read(0).shape
    if in_bag_MN.shape != (len(members), shape[0]):
        raise ValueError(f"in_bag must be [{len(members)}, {shape[0]}] (members, rows); got {in_bag_MN.shape}")
    total_NC = np.zeros(shape)
    for member in range(len(members)):
        out_N = ~in_bag_MN[member]
        total_NC[out_N] += members.read(member)[out_N]
    voters_N = (~in_bag_MN).sum(axis=0)
    mean_NC = np.full(shape, np.nan)
    np.divide(total_NC, voters_N[:, None], out=mean_NC, where=voters_N[:, None] > 0)
    return OutOfBag(mean_NC.astype(np.float32), voters_N)


def last_members_gain(
    predictions: Predictions | Members, in_bag_MN: Bools, labels_N: Labels, *, metric: str, seed: int, last: int = 3
) -> Interval:
    """Change of the out-of-bag metric by the last few members, with a 95% interval, on rows covered before them."""
    members = Members.of(predictions)
    before = len(members) - last
    if before < 1:
        raise ValueError(f"needs more than {last} members to tell what the last {last} brought; got {len(members)}")
    without = out_of_bag(members.take_members(range(before)), in_bag_MN[:before])
    rows = np.flatnonzero(without.covered_N)
    after_NC: Floats = out_of_bag(members, in_bag_MN).preds_NC[rows]
    return paired_difference(after_NC, without.preds_NC[rows], labels_N[rows], metric=metric, seed=seed)


def gain_is_noise(
    predictions: Predictions | Members, in_bag_MN: Bools, labels_N: Labels, *, metric: str, seed: int, last: int = 3
) -> bool:
    """Whether to stop adding bags: what the last few members brought is not above zero beyond its interval.

    Several at once, since one bag changes only the third of the rows that it left out. Never at `last` members or fewer.
    """
    if len(in_bag_MN) <= last:
        return False
    gain = last_members_gain(predictions, in_bag_MN, labels_N, metric=metric, seed=seed, last=last)
    return not (gain.low > 0 if METRICS[metric].greater_is_better else gain.high < 0)
