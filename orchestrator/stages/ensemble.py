"""Ensemble: choose and calibrate on validation, refit, judge once on the test split beside the controls, and write it down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.context import Context
from orchestrator.errors import RunFailed, UserError
from orchestrator.stages.baseline import BASELINE_ID
from orchestrator.stages.refit import run_refits
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import write_json

if TYPE_CHECKING:
    from orchestrator.ensemble.build import EnsembleSpec
    from orchestrator.ensemble.ensemble import Ensemble
    from orchestrator.ensemble.judge import Judgement


def run_ensemble(context: Context) -> dict[str, Any]:
    """Build and judge the ensemble; returns what `ensemble.json` holds. Raises RunFailed when `require_gain` is not met."""
    from orchestrator.ensemble.build import fit_controls, fit_ensemble

    bank, spec, seed = PredictionBank(context.workspace), ensemble_spec(context.experiment), context.experiment.seed
    pool = candidates(context, bank)
    labels = bank.targets("val")

    def fit(members: Sequence[MemberRecord]) -> Ensemble:
        ids = [record.trial_id for record in members]
        return fit_ensemble([bank.get(i, "val") for i in ids], labels, spec=spec, member_ids=ids, seed=seed)

    run_refits(context, pool, size=len(fit(pool).member_ids))
    pool = candidates(context, bank)
    ids = [record.trial_id for record in pool]
    chosen = fit(pool)
    controls = fit_controls(
        [bank.get(i, "val") for i in ids], labels, ensemble=chosen, spec=spec, member_ids=ids,
        groups=[record.config_hash for record in pool], baseline_id=BASELINE_ID, seed=seed,
    )  # fmt: skip
    judgement = _judge_on_test(context, bank, chosen, controls)
    found = _describe(bank, chosen, controls, judgement, pool)
    write_json(context.workspace.ensemble, found)
    _track(context, found)
    context.say(f"ensemble: {len(chosen.member_ids)} members ({chosen.method}); {found['judgement']['verdict']['text']}")
    if context.experiment.ensemble.require_gain and not found["judgement"]["verdict"]["gain"]:
        raise RunFailed(f"ensemble.require_gain: {found['judgement']['verdict']['text']}")
    return found


def candidates(context: Context, bank: PredictionBank) -> list[MemberRecord]:
    """Return the members an ensemble may choose: usable, with validation predictions and weights at hand."""
    found = [
        record
        for record in context.workspace.load_records()
        if record.usable and bank.has(record.trial_id, "val") and context.workspace.weights(record.trial_id).exists()
    ]
    if not found:
        raise UserError(f"{context.workspace.root}: no finished trial with weights here; run `orchestrate search` first")
    return found


def ensemble_spec(experiment: Experiment) -> EnsembleSpec:
    """Return what the ensembling room is asked for."""
    from orchestrator.ensemble.build import EnsembleSpec

    section = experiment.ensemble
    metric = {"loss": "rmse" if experiment.data.task == "regression" else "log_loss"}.get(
        experiment.search.metric, experiment.search.metric
    )
    return EnsembleSpec(
        method=section.method, metric=metric, select_by=section.metric, voting=section.voting, max_members=section.max_members,
        iterations=section.iterations, diversity=section.diversity, calibrate=section.calibrate,
    )  # fmt: skip


def _judge_on_test(
    context: Context, bank: PredictionBank, chosen: Ensemble, controls: Mapping[str, Ensemble]
) -> tuple[Judgement, Judgement]:
    """Return the table on the test split, and the one on validation (which chose, so it flatters)."""
    from orchestrator.ensemble.judge import judge
    from orchestrator.search.predict_members import predict_split

    needed = sorted({member for one in (chosen, *controls.values()) for member in one.member_ids})
    context.say(f"judging {len(needed)} members on the test split")
    predict_split(context.workspace, context.data, needed, "test")
    seed = context.experiment.seed
    test, val = (
        judge(chosen, controls, {m: bank.get(m, split) for m in needed}, bank.targets(split), seed=seed)
        for split in ("test", "val")
    )
    return test, val


def _describe(
    bank: PredictionBank,
    chosen: Ensemble,
    controls: Mapping[str, Ensemble],
    judged: tuple[Judgement, Judgement],
    pool: Sequence[MemberRecord],
) -> dict[str, Any]:
    numbers = chosen.to_json()
    members = [
        {"trial_id": i, "weight": w, "temperature": t}
        for i, w, t in zip(chosen.member_ids, chosen.weights, chosen.temperatures, strict=True)
    ]
    single = controls["best single"].to_json()
    return {
        "version": 1,
        "metric": chosen.metric,
        "ensemble": {**numbers, "members": members},
        "single": {
            **single,
            "members": [{"trial_id": single["member_ids"][0], "weight": 1.0, "temperature": single["temperatures"][0]}],
        },
        "controls": {name: list(control.member_ids) for name, control in controls.items()},
        "judgement": _table(judged[0], "test"),
        "validation": _table(judged[1], "val"),
        "diversity": _diversity(bank, chosen),
        "pool": [record.trial_id for record in pool],
        "data_fingerprint": bank.fingerprint("val"),
    }


def _table(judgement: Judgement, split: str) -> dict[str, Any]:
    """Return a judgement as rows with one difference each, the verdict's metric's, and the verdict in words."""
    verdict = judgement.verdict
    rows = []
    for row in judgement.rows:
        flat = row.to_json()
        for end, ours in (("", "delta"), ("_low", "delta_low"), ("_high", "delta_high")):
            flat[ours] = flat.get(f"{verdict.metric}_difference{end}")
        rows.append({**flat, "members": flat.pop("n_members")})
    gain = verdict.verdict == "gain"
    words = {
        "gain": "the ensemble is better than the best single model",
        "no gain": "no gain: the interval covers zero, the single model is recommended",
        "worse": "worse than the best single model, which is recommended",
    }
    text = (
        f"{words[verdict.verdict]} ({verdict.metric} {verdict.difference:+.4f}, 95% [{verdict.low:+.4f}, {verdict.high:+.4f}])"
    )
    return {
        "split": split,
        "n": judgement.n_rows,
        "rows": rows,
        "verdict": {
            "gain": gain, "text": text, "recommended": verdict.recommended, "metric": verdict.metric,
            "difference": verdict.difference, "low": verdict.low, "high": verdict.high, "mcnemar_p": verdict.mcnemar_p,
        },
    }  # fmt: skip


def _diversity(bank: PredictionBank, chosen: Ensemble) -> dict[str, Any]:
    from orchestrator.ensemble.diversity import diversity

    labels = bank.targets("val")
    members = [bank.get(i, "val") for i in chosen.member_ids]
    if len(members) < 2 or members[0].shape[1] == 1:
        return {}
    return diversity(members, labels.astype("int64")).to_json()


def _track(context: Context, found: dict[str, Any]) -> None:
    from orchestrator.stages.figures import ensemble_figures

    table, ensemble = found["judgement"], found["ensemble"]
    metrics = {
        f"{table['split']}/{_slug(row['name'])}/{key}": float(value)
        for row in table["rows"]
        for key, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    figures: list[Path] = ensemble_figures(context.workspace, found)
    context.tracker.stage(
        "ensemble",
        params={key: ensemble[key] for key in ("method", "voting", "metric", "temperature")}
        | {"members": len(ensemble["members"])},
        metrics=metrics,
        artifacts=[context.workspace.ensemble, *figures],
        tags={"recommended": table["verdict"]["recommended"], "data_fingerprint": found["data_fingerprint"]},
    )


def _slug(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")
