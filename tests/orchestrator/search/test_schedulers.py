"""The stopping rules against brute force, numpy, and Ray's own class on the same stream of scores."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from orchestrator.search.rungs import Bracket, milestones, quantile
from orchestrator.search.schedulers import (
    SCHEDULERS,
    Keep,
    MedianStopping,
    Scheduler,
    SuccessiveHalving,
    Verdict,
    make_scheduler,
)

EPOCHS = 27
Curve = Callable[[int, int], float]


def curve(seed: int) -> Curve:
    """Return score(trial, epoch): monotone, so that the best so far is the last (as Ray's class sees it)."""
    rng = random.Random(seed)
    heights = [rng.random() for _ in range(60)]
    return lambda trial, epoch: heights[trial] * (1 - 0.9**epoch)


def stream(seed: int, trials: int, width: int) -> list[tuple[int, int]]:
    """Return (trial, epoch) in an order that `width` workers could report in, if nobody were stopped."""
    rng = random.Random(seed)
    at, waiting, order = {i: 0 for i in range(width)}, list(range(width, trials)), []
    while at:
        trial = rng.choice(sorted(at))
        at[trial] += 1
        order.append((trial, at[trial]))
        if at[trial] == EPOCHS:
            del at[trial]
            if waiting:
                at[waiting.pop(0)] = 0
    return order


def run(scheduler: Scheduler, order: list[tuple[int, int]], score: Curve) -> dict[int, int]:
    """Return the last epoch of each trial."""
    last: dict[int, int] = {}
    stopped: set[int] = set()
    for trial, epoch in order:
        if trial in stopped:
            continue
        if trial not in last:
            scheduler.admit(str(trial), {"epochs": EPOCHS})
        last[trial] = epoch
        if scheduler.judge(str(trial), epoch, score(trial, epoch)) is Verdict.STOP:
            stopped.add(trial)
            scheduler.leave(str(trial))
    return last


def brute_asha(order: list[tuple[int, int]], score: Curve, grace: int, reduction: int) -> dict[int, int]:
    """ASHA's stopping variant spelled out: at grace * reduction**k, stop below numpy's percentile of those before."""
    rungs: dict[int, list[float]] = {}
    last: dict[int, int] = {}
    stopped: set[int] = set()
    for trial, epoch in order:
        if trial in stopped:
            continue
        last[trial] = epoch
        if epoch < EPOCHS and epoch in [grace * reduction**k for k in range(10)]:
            before = rungs.setdefault(epoch, [])
            if before and score(trial, epoch) < np.percentile(before, (1 - 1 / reduction) * 100):
                stopped.add(trial)
            before.append(score(trial, epoch))
    return last


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("grace", "reduction"), [(1, 3), (2, 2), (3, 4)])
def test_asha_decides_as_brute_force(seed: int, grace: int, reduction: int) -> None:
    order, score = stream(seed, 30, 4), curve(seed)
    assert run(SuccessiveHalving(grace=grace, reduction=reduction), order, score) == brute_asha(order, score, grace, reduction)


def test_asha_decides_as_rays_class() -> None:
    schedulers = pytest.importorskip("ray.tune.schedulers.async_hyperband")
    order, score = stream(3, 30, 4), curve(3)
    theirs = schedulers._Bracket(1, EPOCHS, 3, 0)
    last: dict[int, int] = {}
    stopped: set[int] = set()
    for trial, epoch in order:
        if trial not in stopped:
            last[trial] = epoch
            action = theirs.on_result(type("T", (), {"trial_id": str(trial)}), epoch, score(trial, epoch))
            if action == "STOP":
                stopped.add(trial)
    assert run(SuccessiveHalving(grace=1, reduction=3), order, score) == last
    assert 0 < len(stopped) < 30


def test_a_replay_of_half_the_stream_then_the_rest_decides_the_same() -> None:
    order, score = stream(1, 30, 4), curve(1)
    whole = run(SuccessiveHalving(grace=1, reduction=3), order, score)
    kept = [(t, e) for t, e in order if e <= whole[t]]
    again = SuccessiveHalving(grace=1, reduction=3)
    run(again, kept[: len(kept) // 2], score)
    rest = {}
    for trial, epoch in kept[len(kept) // 2 :]:
        if epoch == 1:
            again.admit(str(trial), {"epochs": EPOCHS})
        rest[trial] = again.judge(str(trial), epoch, score(trial, epoch))
    assert {t for t, verdict in rest.items() if verdict is Verdict.STOP} == {
        t for t, e in whole.items() if e < EPOCHS and (t, e) in kept[len(kept) // 2 :]
    }


def test_the_best_epoch_so_far_is_what_counts_at_a_milestone() -> None:
    rule = SuccessiveHalving(grace=2, reduction=2)
    rule.admit("a", {"epochs": 8})
    rule.admit("b", {"epochs": 8})
    assert rule.judge("a", 1, 0.5) is rule.judge("a", 2, 0.5) is Verdict.GO_ON
    rule.judge("b", 1, 0.9)
    assert rule.judge("b", 2, 0.1) is Verdict.GO_ON


def test_hyperband_gives_later_brackets_fewer_trials_and_later_first_milestones() -> None:
    rule = SuccessiveHalving(grace=1, reduction=3, hyperband=True)
    for i in range(40):
        rule.admit(str(i), {"epochs": 27})
    sizes = [bracket.size for bracket in rule._brackets.values()]
    assert sizes == [27, 9, 3, 1]
    assert rule._brackets[3].passes("x", 26, 0.0, top=27) and not rule._brackets[3]._rungs


def test_a_trial_back_from_a_checkpoint_past_a_milestone_is_entered_late() -> None:
    bracket = Bracket(2, 2)
    assert bracket.passes("a", 2, 1.0, top=8) and bracket.passes("a", 3, 1.0, top=8)
    assert not bracket.passes("b", 3, 0.5, top=8)
    assert bracket.passes("b", 3, 0.0, top=8), "judged once a milestone"


def brute_median(curves: list[list[float]], grace: int) -> list[int]:
    """Sequential trials: each runs until its best is below the median of the earlier ones' running means."""
    kept: list[list[float]] = []
    for scores in curves:
        end = len(scores)
        for epoch in range(1, len(scores) + 1):
            others = [np.mean(k[:epoch]) for k in kept if len(k) >= epoch]
            if epoch > grace and len(others) >= 3 and max(scores[:epoch]) < np.median(others):
                end = epoch
                break
        kept.append(scores[:end])
    return [len(k) for k in kept]


@pytest.mark.parametrize("seed", range(5))
def test_median_stopping_decides_as_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = [list(rng.random() + 0.2 * rng.standard_normal(12)) for _ in range(25)]
    order = [(i, e) for i in range(25) for e in range(1, 13)]
    ends = run(MedianStopping(grace=2), order, lambda i, e: curves[i][e - 1])
    expected = brute_median(curves, 2)
    assert [ends[i] for i in range(25)] == expected
    assert min(expected) < 12


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("grace", "epochs"), [(1, 1), (1, 6), (2, 7), (3, 9), (4, 12), (9, 5)])
def test_a_trial_waits_after_the_epochs_that_were_named_and_no_other(name: str, grace: int, epochs: int) -> None:
    waited: set[int] = set()
    rule = make_scheduler(name, grace=grace, reduction=2, seed=0)
    rng = np.random.default_rng(0)
    for trial in (f"t{number}" for number in range(20)):
        rule.admit(trial, {"epochs": epochs})
        waited |= {e for e in range(1, epochs + 1) if rule.judge(trial, e, float(rng.random())) is Verdict.WAIT}
    assert waited == set(rule.waits({"epochs": epochs}))
    assert bool(waited) == (name == "pbt" and grace < epochs)


def test_quantile_is_numpys() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 10):
        values = rng.random(n).tolist()
        assert [quantile(values, q) for q in (0, 0.25, 2 / 3, 1)] == pytest.approx(np.quantile(values, [0, 0.25, 2 / 3, 1]))


def test_milestones_lie_below_the_last_epoch() -> None:
    assert milestones(2, 3, 18) == [2, 6] and milestones(5, 3, 5) == []


def test_no_scheduler_stops_nobody_and_an_unknown_name_is_refused() -> None:
    assert make_scheduler("none", grace=1, reduction=3, seed=0).judge("a", 1, float("-inf")) is Verdict.GO_ON
    assert Keep().release() == []
    with pytest.raises(ValueError, match="search.scheduler: got 'best', allowed: asha, hyperband"):
        make_scheduler("best", grace=1, reduction=3, seed=0)
