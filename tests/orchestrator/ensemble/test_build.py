"""The room from end to end: names, notices, honesty on a null pool, a gain on a real one, bad input, a bank on disk."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensemble.build import EnsembleSpec, fit_controls, fit_ensemble
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.judge import judge
from orchestrator.ensemble.metrics import accuracy

METHODS = ["convex", "greedy", "log_pool", "topk", "single", "auto"]


def ids(count):
    return [f"trial{m}" for m in range(count)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_cross_fits_and_repeats(make_pool, method):
    probs, labels = make_pool(8, 400, 3, seed=0)
    spec = EnsembleSpec(method=method)
    ensemble = fit_ensemble(probs, labels, spec=spec, member_ids=ids(8), seed=3)
    assert [f"trial{m}" for m in ensemble.members] == list(ensemble.member_ids)
    assert ensemble == fit_ensemble(list(probs), labels, spec=spec, member_ids=ids(8), seed=3)
    assert ensemble.cross_fit.folds == 5
    fitted = accuracy(ensemble.combine([probs[m] for m in ensemble.members]), labels)
    assert fitted >= ensemble.cross_fit.scores["accuracy"] - 0.02
    assert Ensemble.from_json(ensemble.to_json()) == ensemble


def test_dropped_members_keep_the_callers_numbers_and_names(make_pool):
    probs, labels = make_pool(6, 300, 3, seed=1)
    probs[0] = np.nan
    probs[3] = probs[2]
    ensemble = fit_ensemble(probs, labels, spec=EnsembleSpec(folds=0), member_ids=ids(6), seed=0)
    assert not {0, 3} & set(ensemble.members)
    assert [f"trial{m}" for m in ensemble.members] == list(ensemble.member_ids)
    assert any("Dropped 1 members with NaN" in n for n in ensemble.notices)
    assert any("trial3 = trial2" in n for n in ensemble.notices)
    controls = fit_controls(
        probs,
        labels,
        ensemble=ensemble,
        spec=EnsembleSpec(),
        member_ids=ids(6),
        baseline_id="trial0",
        seed=0,
    )
    assert "baseline" not in controls
    assert controls["uniform all"].member_ids == ("trial1", "trial2", "trial4", "trial5")


def test_one_member_and_few_rows_work_and_are_said(make_pool):
    probs, labels = make_pool(1, 40, 3, seed=2)
    alone = fit_ensemble(probs, labels, spec=EnsembleSpec(), member_ids=ids(1), seed=0)
    assert (alone.members, alone.weights) == ((0,), (1.0,))
    assert "single model" in alone.notices[0]
    probs, labels = make_pool(12, 8, 3, seed=2)
    few = fit_ensemble(probs, labels, spec=EnsembleSpec(), member_ids=ids(12), seed=0)
    assert few.cross_fit is None
    assert any("too few for 5 folds" in n for n in few.notices)


def test_hard_labels_alone_are_enough_for_a_hard_vote(make_pool):
    probs, labels = make_pool(7, 1000, 4, seed=3)
    votes = np.eye(4, dtype=np.float32)[probs.argmax(2)]
    spec = EnsembleSpec(method="topk", voting="hard", max_members=7)
    ensemble = fit_ensemble(votes[:, :500], labels[:500], spec=spec, member_ids=ids(7), seed=0)
    out = ensemble.combine([votes[m, 500:] for m in ensemble.members])
    counts = votes[:, 500:].sum(0)
    clear = (counts == counts.max(1, keepdims=True)).sum(1) == 1
    assert np.array_equal(out.argmax(1)[clear], counts.argmax(1)[clear])
    assert accuracy(out, labels[500:]) > max(accuracy(v, labels[500:]) for v in votes[:, 500:])


@pytest.mark.parametrize("method", ["convex", "greedy", "topk", "single", "auto"])
def test_regression_from_end_to_end(method):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=600)
    preds = (targets + rng.uniform(0.6, 1.2, (6, 1)) * rng.normal(size=(6, 600)))[:, :, None]
    spec = EnsembleSpec(method=method, metric="rmse")
    ensemble = fit_ensemble(preds[:, :300], targets[:300], spec=spec, member_ids=ids(6), seed=0)
    controls = fit_controls(preds[:, :300], targets[:300], ensemble=ensemble, spec=spec, member_ids=ids(6), seed=0)
    table = judge(ensemble, controls, dict(zip(ids(6), preds[:, 300:], strict=True)), targets[300:], seed=0)
    assert table.row("ensemble").accuracy_interval is None
    assert table.verdict.verdict == ("no gain" if method == "single" else "gain")


def _verdict(probs, labels, seed, spec):
    half = probs.shape[1] // 2
    names = ids(len(probs))
    ensemble = fit_ensemble(probs[:, :half], labels[:half], spec=spec, member_ids=names, seed=seed)
    single = fit_ensemble(probs[:, :half], labels[:half], spec=replace(spec, method="single"), member_ids=names, seed=seed)
    return judge(
        ensemble, {"best single": single}, dict(zip(names, probs[:, half:], strict=True)), labels[half:], seed=seed
    ).verdict


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_gate_refuses_a_pool_of_one_model_and_noise(make_pool, metric):
    spec = EnsembleSpec(folds=0, metric=metric)
    refused = 0
    for seed in range(100):
        (model,), labels = make_pool(1, 1000, 4, seed=seed)
        logits = np.log(model) + 0.05 * np.random.default_rng([seed, 9]).normal(size=(6, 1000, 4))
        powers = np.exp(logits)
        pool = (powers / powers.sum(2, keepdims=True)).astype(np.float32)
        refused += _verdict(pool, labels, seed, spec).recommended == "single"
    assert refused >= 95


def test_the_gate_accepts_pools_that_differ(make_pool):
    for seed in range(10):
        probs, labels = make_pool(8, 1000, 4, seed=seed)
        verdict = _verdict(probs, labels, seed, EnsembleSpec(folds=0))
        assert (verdict.verdict, verdict.recommended) == ("gain", "ensemble")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_thousand_members_on_disk_stay_below_a_gigabyte(tmp_path):
    bank = np.lib.format.open_memmap(tmp_path / "bank.npy", mode="w+", dtype=np.float16, shape=(2000, 10_000, 100))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 10_000)
    base = rng.normal(size=(10_000, 100)).astype(np.float32)
    for m in range(2000):
        logits = np.roll(base, m, axis=0) + 0.01 * m % 1.0
        logits[np.arange(10_000), labels] += 2.0 + (m % 17) / 10
        powers = np.exp(logits)
        bank[m] = powers / powers.sum(1, keepdims=True)
    del bank
    np.save(tmp_path / "labels.npy", labels)
    script = """
        import sys
        from pathlib import Path
        import numpy as np
        from orchestrator.ensemble.build import EnsembleSpec, fit_ensemble

        bank, labels = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
        names = [str(m) for m in range(len(bank))]
        fit_ensemble(bank, labels, spec=EnsembleSpec(folds=0), member_ids=names, seed=0)
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "bank.npy"), str(tmp_path / "labels.npy")],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 1e9
