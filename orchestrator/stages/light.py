"""Light: linear classifiers on the frozen features of pretrained weights, as one member that costs seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config import Experiment
from orchestrator.context import Context
from orchestrator.store.records import MemberRecord, TrialSpec

LIGHT_ID = "light"


def run_light(context: Context) -> MemberRecord | None:
    """Fit logistic regressions and linear SVMs, the best of which joins the pool (once; a finished one is kept).

    Returns None where there is nothing to stand on: no pretrained weights, a regression, or `search.light: false`.
    """
    from orchestrator.resolve import baseline_config

    spec = light_spec(context.experiment)
    if spec is None:
        context.say(f"light: nothing to do ({_missing(context.experiment, baseline_config(context.experiment))})")
        return None
    (record,) = context.train([spec])
    if not record.usable:  # a network that ends in something else than a linear layer, say; the search can do without
        context.say(f"light: {record.status} ({(record.error or record.stop_reason).splitlines()[0]}); the search goes on")
        return record
    metric, kind = context.experiment.search.metric, "linear SVM" if record.metrics["head/svm"] else "logistic regression"
    context.say(
        f"light: {kind}, C = {record.metrics['head/strength']:g}, on frozen features: val {metric} {record.score(metric):.4f} "
        f"({record.seconds:.0f} s)"
    )
    return record


def light_spec(experiment: Experiment) -> TrialSpec | None:
    """Return the baseline's network with its weights, all of it frozen, as a trial of its own kind; or None."""
    from orchestrator.resolve import baseline_config
    from trainables.light_classifier import HEADS

    config = baseline_config(experiment)
    if _missing(experiment, config):
        return None
    frozen = {"finetune_depth": "head", "augmentation": "none", "epochs": len(HEADS)}
    return TrialSpec(trial_id=LIGHT_ID, config={**config, **frozen}, kind="light", trainable="light")


def _missing(experiment: Experiment, baseline: Mapping[str, Any]) -> str:
    """Return what the stage lacks ("": nothing)."""
    if not experiment.search.light:
        return "search.light is false"
    if experiment.data.task == "regression":
        return "it needs classes"
    return "it needs pretrained weights" if baseline["weights"] == "none" else ""
