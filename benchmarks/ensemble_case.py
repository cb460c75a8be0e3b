"""One measured case of ensembling: real trials on Fashion-MNIST, and every way to combine them on the same test images.

Run:  python benchmarks/ensemble_case.py                    (24 trials, 5 bags, 5 seeds, boosting; minutes on two cores)
      python benchmarks/ensemble_case.py --trials 4 --limit 600 --epochs 1 --out /tmp/case    (only to see that it runs)

The product's own search, refits and boosting train everything, in this process. Validation chooses; the 10,000 test images are
looked at once, after. Real data are looked for in ORCHESTRATE_DATA, or in shared/data beside this repository. Results go to
benchmarks/results/ensemble_case.{json,md}. With --pool FILE it only searches, and writes the probabilities for the tests.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from restore_data import restore_fashion_mnist

from orchestrator.config import Experiment
from orchestrator.context import Context, open_run
from orchestrator.ensemble.calibration import fit_temperature
from orchestrator.ensemble.ensemble import Ensemble
from orchestrator.ensemble.gate import paired_difference
from orchestrator.ensemble.judge import ENSEMBLE
from orchestrator.stages.bagging import bagged_controls, describe_bags
from orchestrator.stages.baseline import run_baseline
from orchestrator.stages.boosting import NAME as BOOSTED
from orchestrator.stages.boosting import run_boosting
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.judgement import Entrants, judged
from orchestrator.stages.refit import run_refits
from orchestrator.stages.search import run_search_stage
from orchestrator.stages.soups import run_soups
from orchestrator.stages.tta import NAME as WITH_TTA
from orchestrator.stages.tta import single_with_tta
from orchestrator.store.records import MemberRecord

HERE = Path(__file__).parent
ANCHOR = "AutoGluon's weights, then a temperature"
POOL_TEST_ROWS = 4_000
"""Test images whose probabilities go into the tests' pool: with fewer it stays a small file."""


def main() -> None:
    """Train, combine, judge, write."""
    asked = _arguments()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        restore_fashion_mnist(_source(), root)
        with open_run(_experiment(asked, root, Path(scratch)), print) as context:
            run_baseline(context)
            run_search_stage(context)
            if asked.pool:
                save_pool(context, asked.pool)
                return
            found = measure(context, asked)
    found |= {"minutes": round((time.perf_counter() - started) / 60, 1), "cpus": os.cpu_count(), "asked": _plain(asked)}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.with_suffix(".json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    asked.out.with_suffix(".md").write_text(as_markdown(found))
    print(as_markdown(found))


def measure(context: Context, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the judged table of every ensemble; members of the first rows are the search's own trials alone."""
    fitting = Fitting.of(context)
    trials = fitting.candidates()
    chosen = fitting.fit(trials)
    ways = combinations(fitting, trials, chosen)
    stopped = run_refits(fitting)
    bagged = bagged_controls(fitting)
    run_refits(_with_seeds(fitting, asked.members))
    seeds = [record for record in fitting.candidates() if record.kind == "refit"]
    boosted = run_boosting(fitting)
    assert boosted is not None
    soups = run_soups(fitting)
    everyone = fitting.candidates()
    ways |= {"bagged": bagged["bagged"], "seed ensemble": fitting.given([s.trial_id for s in seeds], "seed ensemble")}
    for method in ("greedy", "convex"):
        ways[f"{method}, refits joined"] = fitting.fit(everyone, method=method)
    entrants = Entrants(chosen, ways)
    _predict_test(context, sorted({*entrants.member_ids, *boosted.member_ids}))
    tta = single_with_tta(fitting, ways["best single"])
    assert tta is not None
    entrants.add_ready(WITH_TTA, tta.predictions, 1)
    if boosted.member_ids:
        predictions = {split: boosted.predict(fitting, split) for split in ("val", "test")}
        entrants.add_ready(BOOSTED, predictions, len(boosted.member_ids))
    tables = {name: judged(fitting, entrants, split) for name, split in (("validation", "val"), ("test", "test"))}
    bags = describe_bags(fitting, {"bagged": bagged["bagged"]}, stopped, tables)["bagged"]
    boosting = dataclasses.asdict(boosted)
    return {
        "trials": len(trials), "test": tables["test"], "bags": bags, "boosting": boosting, "soups": soups, "tta": tta.views,
        "against_autogluon": against(fitting, {ENSEMBLE: chosen, **ways}, ways[ANCHOR]),
    }  # fmt: skip


def against(fitting: Fitting, ways: dict[str, Ensemble], anchor: Ensemble) -> dict[str, list[float]]:
    """Return each way's test log-loss minus the anchor's, with its paired 95 % interval."""
    labels, reference = fitting.labels("test"), fitting.combined(anchor, "test")
    return {
        name: list(paired_difference(fitting.combined(one, "test"), reference, labels, metric="log_loss", seed=fitting.seed))
        for name, one in ways.items()
        if one is not anchor
    }


def combinations(fitting: Fitting, trials: list[MemberRecord], chosen: Ensemble) -> dict[str, Ensemble]:
    """Return every way to combine the search's own trials, each fitted on validation."""
    five = [record.trial_id for record in fitting.parents()[:5]]
    controls = fitting.controls(trials, chosen)
    ways = {name: controls[name] for name in ("baseline", "best single", "uniform top-k", "uniform all") if name in controls}
    for method in ("greedy", "log_pool", "auto"):
        ways[method] = fitting.fit(trials, method=method, folds=0)
    ways[ANCHOR] = autogluon_weights(fitting, trials)
    for voting in ("hard", "soft", "log"):
        room = Fitting(fitting.context, fitting.bank, dataclasses.replace(fitting.spec, voting=voting))
        ways[f"{voting} vote of the best five"] = room.given(five, voting)
    return ways


def autogluon_weights(fitting: Fitting, trials: list[MemberRecord]) -> Ensemble:
    """Return the weights of AutoGluon's EnsembleSelection (ours equal them where nothing is calibrated), and a temperature."""
    plain = fitting.fit(trials, method="greedy", calibrate=False, folds=0, max_members=len(trials))
    return dataclasses.replace(plain, temperature=fit_temperature(fitting.combined(plain, "val"), fitting.labels("val")))


def save_pool(context: Context, path: Path) -> None:
    """Write probabilities of the baseline and the trials on validation and on some of the test images, with their labels."""
    fitting = Fitting.of(context)
    ids = [record.trial_id for record in fitting.candidates() if record.kind in ("trial", "baseline")]
    _predict_test(context, ids)
    rows = np.sort(np.random.default_rng(0).permutation(len(fitting.labels("test")))[:POOL_TEST_ROWS])
    np.savez_compressed(
        path, ids=np.array(ids), val_labels=fitting.labels("val").astype(np.uint8),
        test_labels=fitting.labels("test")[rows].astype(np.uint8), val=fitting.bank.stack(ids, "val").astype(np.float16),
        test=fitting.bank.stack(ids, "test")[:, rows].astype(np.float16),
    )  # fmt: skip
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def as_markdown(found: dict[str, Any]) -> str:
    """Return the table with intervals, and what bags and boosting said."""
    asked, table, bags = found["asked"], found["test"], found["bags"]
    lines = [
        "# A measured case of ensembling", "",
        f"Fashion-MNIST, {asked['limit']} images for training and validation, {table['n']} for the test; {found['trials']} "
        f"trials of {asked['epochs']} epochs by the product's own search, {asked['members']} bags, {asked['members']} seeds, "
        f"up to {asked['boost']} boosting stages of the best; {found['minutes']} minutes on {found['cpus']} cores, one thread. "
        "Intervals: 95 %, Wilson for accuracy, paired bootstrap over test images for differences (the chance of training again "
        "is not in them).", "",
        "| | members | accuracy | log-loss | ECE | accuracy against best single | log-loss against best single "
        "| log-loss against AutoGluon's weights |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(table["rows"], key=lambda row: row["log_loss"]):
        name = "convex (the ensemble)" if row["name"] == "ensemble" else row["name"]
        score = f"{row['accuracy']:.4f} [{row['accuracy_low']:.4f}, {row['accuracy_high']:.4f}]"
        differences = " | ".join(_difference(row, metric) for metric in ("accuracy", "log_loss"))
        interval = found["against_autogluon"].get(row["name"])
        differences += " | " + ("{:+.4f} [{:+.4f}, {:+.4f}]".format(*interval) if interval else "")
        lines.append(f"| {name} | {row['members']} | {score} | {row['log_loss']:.4f} | {row['ece']:.4f} | {differences} |")
    stages = " ".join(f"{error:.3f}" for error in found["boosting"]["errors"])
    lines += [
        "", f"Verdict: {table['verdict']['text']}.", "",
        f"Bags: out-of-bag accuracy {bags['out_of_bag']['accuracy']:.4f} over {bags['rows'] - bags['rows_without_estimate']} "
        f"of {bags['rows']} rows, validation {bags['validation']['accuracy']:.4f}, test {bags['test']['accuracy']:.4f}; "
        f"{bags['stopped']}.", "",
        f"Boosting: weighted errors {stages}; ended because: {found['boosting']['stopped']}.", "",
        *(f"{name}: validation {soup['metric']} {soup['score']:.4f}, its best network {soup['best_ingredient']:.4f}, "
          f"{'kept' if soup['kept'] else 'not kept'}." for name, soup in found["soups"].items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _difference(row: dict[str, Any], metric: str) -> str:
    key = f"{metric}_difference"
    return f"{row[key]:+.4f} [{row[f'{key}_low']:+.4f}, {row[f'{key}_high']:+.4f}]" if key in row else ""


def _predict_test(context: Context, ids: list[str]) -> None:
    from orchestrator.search.predict_members import predict_split

    predict_split(context.workspace, context.data, ids, "test")


def _with_seeds(fitting: Fitting, members: int) -> Fitting:
    """Return the same run, asked for seeds instead of bags."""
    experiment = fitting.context.experiment
    ensemble = {**experiment.ensemble.model_dump(), "refit": {"mode": "seeds", "members": members}}
    changed = Experiment.model_validate({**experiment.model_dump(), "ensemble": ensemble}, strict=False)
    return Fitting(dataclasses.replace(fitting.context, experiment=changed), fitting.bank, fitting.spec)


def _experiment(asked: argparse.Namespace, root: Path, scratch: Path) -> Experiment:
    values = {
        "name": "ensemble-case", "run_dir": str(scratch / "runs"), "seed": asked.seed,
        "data": {"source": "fashion_mnist", "root": str(root), "limit": asked.limit, "cache_dir": str(scratch / "cache")},
        "train": {"epochs": asked.epochs, "device": "cpu"},
        "search": {
            "space": str(HERE / "ensemble_case.yaml"), "trials": asked.trials, "backend": "local", "scheduler": "none",
            "algorithm": "random", "keep_weights": asked.trials, "metric": "accuracy",
        },
        "ensemble": {"refit": {"mode": "bootstrap", "members": asked.members}, "boost_rounds": asked.boost},
        "tracking": {"uri": "none"},
    }  # fmt: skip
    return Experiment.model_validate(values, strict=False)


def _source() -> Path:
    root = Path(os.environ.get("ORCHESTRATE_DATA", HERE.parents[1] / "shared" / "data"))
    if not (root / "fashion-mnist").is_dir():
        raise SystemExit(f"no fashion-mnist at {root}; set ORCHESTRATE_DATA (see benchmarks/restore_data.py)")
    return root / "fashion-mnist"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--limit", type=int, default=7_500, help="images for training and validation")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--members", type=int, default=5, help="bags, and seeds, of the best configuration")
    parser.add_argument("--boost", type=int, default=4, help="boosting stages at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ensemble_case")
    parser.add_argument("--pool", type=Path, help="only search, and write the trials' probabilities here (.npz)")
    return parser.parse_args()


def _plain(asked: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(asked).items() if not isinstance(value, Path)}


if __name__ == "__main__":
    main()
