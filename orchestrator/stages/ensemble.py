"""Ensemble: refit, boost and mix, choose and calibrate on validation, judge once on the test split, and write it down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.context import Context
from orchestrator.errors import RunFailed
from orchestrator.stages.bagging import bagged_controls, describe_bags
from orchestrator.stages.boosting import NAME as BOOSTED
from orchestrator.stages.boosting import Boosted, run_boosting
from orchestrator.stages.controls import bigger_control, seed_control
from orchestrator.stages.countdown import Countdown
from orchestrator.stages.family import CASCADE, Cascaded, cascaded, describe_family, measure, relatives, voting_json
from orchestrator.stages.fitting import Fitting
from orchestrator.stages.judgement import Entrants, calibration_facts, diversity_facts, judged
from orchestrator.stages.refit import run_refits, top_up_seeds
from orchestrator.stages.soups import run_soups
from orchestrator.stages.tta import NAME as WITH_TTA
from orchestrator.stages.tta import single_with_tta
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import write_json

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble


def run_ensemble(context: Context) -> dict[str, Any]:
    """Build and judge the ensemble; returns what `ensemble.json` holds. Raises RunFailed when `require_gain` is not met."""
    fitting = Fitting.of(context)
    stopped = run_refits(fitting)
    boosted = run_boosting(fitting)
    soups = run_soups(fitting)
    pool = fitting.candidates()
    chosen = fitting.fit(pool)
    controls = _controls(fitting, pool, chosen)
    found = {
        **_judge(fitting, chosen, controls, stopped=stopped, boosted=boosted),
        "version": 1,
        "metric": chosen.metric,
        "ensemble": voting_json(chosen),
        "single": voting_json(controls["best single"]),
        "diversity": _diversity(fitting, chosen),
        "soups": soups,
        "pool": [record.trial_id for record in pool],
        "data_fingerprint": fitting.bank.fingerprint("val"),
    }
    write_json(context.workspace.ensemble, found)
    _track(context, found)
    verdict = found["judgement"]["verdict"]
    gap = "" if chosen.gap is None else f", certified within {chosen.gap:.0e} of its optimum"
    context.say(f"ensemble: {len(chosen.member_ids)} members ({chosen.method}{gap}); {verdict['text']}")
    if context.experiment.ensemble.require_gain and not verdict["gain"]:
        raise RunFailed(f"ensemble.require_gain: {verdict['text']}")
    return found


def _controls(fitting: Fitting, pool: Sequence[MemberRecord], chosen: Ensemble) -> dict[str, Ensemble]:
    """Return the controls chosen from the pool, the seeds of the best configuration, and a bigger single network."""
    found = fitting.controls(pool, chosen)
    top_up_seeds(fitting, size=len(chosen.member_ids))
    seeds = seed_control(fitting, size=len(chosen.member_ids))
    return {**found, **seeds, **bigger_control(fitting, pool, found["best single"])}


def _judge(
    fitting: Fitting, chosen: Ensemble, controls: Mapping[str, Ensemble], *, stopped: Mapping[str, str], boosted: Boosted | None
) -> dict[str, Any]:
    """Bring everyone who is compared with the ensemble together, predict the test split once, and judge."""
    from orchestrator.search.predict_members import predict_split

    context, single = fitting.context, controls["best single"]
    family, bagged = relatives(fitting, chosen, single), bagged_controls(fitting)
    kin = {name: one for name, one in family.items() if name != "ensemble"}
    entrants = Entrants(chosen, {**controls, **kin, **bagged})
    needed = sorted({*entrants.member_ids, *(boosted.member_ids if boosted else ())})
    context.say(f"judging {len(needed)} members on the test split")
    countdown = Countdown(context.say, "test split", len(needed) * len(context.splits().test))
    predict_split(context.workspace, context.data, needed, "test", heard=countdown)
    tta = single_with_tta(fitting, single)
    if tta is not None:
        entrants.add_ready(WITH_TTA, tta.predictions, 1)
    if boosted is not None and boosted.member_ids:
        answers = {split: boosted.predict(fitting, split) for split in ("val", "test")}
        entrants.add_ready(BOOSTED, answers, len(boosted.member_ids))
    cascade = cascaded(fitting, single, chosen)
    if cascade is not None:
        entrants.add_ready(CASCADE, cascade.predictions, len(chosen.member_ids))
    test, val = (judged(fitting, entrants, split) for split in ("test", "val"))
    return {
        "judgement": test,
        "validation": val,
        "calibration": calibration_facts(fitting, chosen, "test"),
        "controls": {name: list(control.member_ids) for name, control in entrants.controls.items()},
        "tta": tta.views if tta else "none",
        "bagging": describe_bags(fitting, bagged, stopped, {"validation": val, "test": test}),
        "boosting": _boosting(boosted),
        "family": _family(fitting, family, cascade),
    }


def _family(fitting: Fitting, family: Mapping[str, Ensemble], cascade: Cascaded | None) -> list[dict[str, Any]]:
    fitting.context.say(f"measuring the latency of {len(family)} models")
    return describe_family(fitting, family, measure(fitting, family), cascade)


def _boosting(boosted: Boosted | None) -> dict[str, Any]:
    if boosted is None:
        return {}
    return {
        "members": list(boosted.member_ids), "weights": list(boosted.weights), "weighted_errors": list(boosted.errors),
        "stopped": boosted.stopped,
    }  # fmt: skip


def _diversity(fitting: Fitting, chosen: Ensemble) -> dict[str, Any]:
    from orchestrator.ensemble.calibration import apply_temperature

    members = [fitting.bank.get(i, "val") for i in chosen.member_ids]
    if not fitting.spec.regression:
        members = [apply_temperature(p, t) for p, t in zip(members, chosen.temperatures, strict=True)]
    return diversity_facts(members, chosen.weights, fitting.labels("val"))


def _track(context: Context, found: dict[str, Any]) -> None:
    from orchestrator.stages.figures import ensemble_figures

    table, ensemble = found["judgement"], found["ensemble"]
    metrics = {
        f"{table['split']}/{_slug(row['name'])}/{key}": float(value)
        for row in table["rows"]
        for key, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    metrics |= {
        f"calibration/{when}/{key}": float(value)
        for when in ("before", "temperature", "after")
        for key, value in found["calibration"].get(when, {}).items()
    }
    metrics |= {
        f"family/{_slug(row['name'])}/{key}": float(row[key])
        for row in found["family"]
        for key in ("latency_ms_batch_1", "latency_ms_batch_64", "size_mb")
    }
    for name, bags in found["bagging"].items():
        metrics |= {f"oob/{_slug(name)}/{key}": float(value) for key, value in bags["out_of_bag"].items()}
    figures: list[Path] = ensemble_figures(context, found)
    context.tracker.stage(
        "ensemble",
        params={key: ensemble[key] for key in ("method", "voting", "metric", "temperature")}
        | {"members": len(ensemble["members"]), "calibration": found["calibration"].get("method", "none")},
        metrics=metrics,
        artifacts=[context.workspace.ensemble, *figures],
        tags={"recommended": table["verdict"]["recommended"], "data_fingerprint": found["data_fingerprint"]},
    )


def _slug(name: str) -> str:
    return name.replace(" + ", " ").replace(" ", "_").replace("-", "_")
