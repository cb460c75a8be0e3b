"""Soups: networks of one configuration averaged into one, kept as a member only if validation says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import WHOLE, Fitting
from orchestrator.store.records import MemberRecord, mode_of

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.inference import InferenceModel

SOUPS = {"uniform soup": "soup-uniform", "greedy soup": "soup-greedy"}
"""Name in the table -> trial id."""
MOST = 8
"""Networks that a soup is made of at most."""


def run_soups(fitting: Fitting) -> dict[str, dict[str, Any]]:
    """Mix the uniform and the greedy soup of the best configuration trained at least twice; returns what came of them.

    A soup joins the pool when its validation score is no worse than that of the best network in it.
    """
    from orchestrator.ensemble.cheap import greedy_soup

    workspace = fitting.context.workspace
    old = [workspace.member(trial_id) for trial_id in SOUPS.values() if workspace.member(trial_id).exists()]
    if old:
        workspace.ensemble.unlink(missing_ok=True)  # it may name them; the new one is written when it is judged
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    group = _group(fitting)
    if len(group) < 2 or not fitting.context.experiment.ensemble.soup:
        return {}
    pot = _Pot(fitting, group)
    scores = [pot.score(fitting.bank.get(record.trial_id, "val")) for record in group]
    everyone = tuple(range(len(group)))
    uniform = pot.evaluate(everyone)
    greedy, greedy_score = greedy_soup(scores, pot.evaluate)
    found = {"uniform soup": pot.keep("uniform soup", everyone, uniform, max(scores))}
    if len(greedy) > 1 and set(greedy) != set(everyone):
        found["greedy soup"] = pot.keep("greedy soup", greedy, greedy_score, max(scores))
    for name, soup in found.items():
        fitting.context.say(f"{name} of {len(soup['members'])}: {'kept' if soup['kept'] else 'not kept'}")
    return found


def _group(fitting: Fitting) -> list[MemberRecord]:
    """Return the networks of the best configuration that was trained at least twice on all rows."""
    pool = [record for record in fitting.candidates() if record.kind in WHOLE]
    for parent in fitting.parents():
        group = [record for record in pool if record.config_hash == parent.config_hash]
        if len(group) > 1:
            return group[:MOST]
    return []


class _Mixed(NamedTuple):
    weights: dict[str, Tensor]
    module: InferenceModel
    val_NC: NDArray[np.float32]


class _Pot:
    """Soups of a group of networks, each mixed once."""

    def __init__(self, fitting: Fitting, group: Sequence[MemberRecord]) -> None:
        self._fitting, self._group, self._splits = fitting, group, fitting.context.splits()
        self._mixed: dict[tuple[int, ...], _Mixed] = {}

    def score(self, probs_NC: NDArray[np.float32]) -> float:
        """Return the run's metric on validation; greater is better."""
        from orchestrator.ensemble.metrics import METRICS

        metric = self._fitting.spec.metric
        sign = 1.0 if mode_of(metric) == "max" else -1.0
        value: float = sign * METRICS[metric].function(probs_NC, self._fitting.labels("val"))
        return value

    def evaluate(self, members: tuple[int, ...]) -> float:
        """Return the validation score of the soup of some of the group."""
        return self.score(self._mix(members).val_NC)

    def keep(self, name: str, members: tuple[int, ...], score: float, best: float) -> dict[str, Any]:
        """Make the soup a member of the run where its score is good enough; returns what is said of it."""
        kept = score >= best
        if kept:
            self._save(SOUPS[name], members)
        ids = [self._group[m].trial_id for m in members]
        return {
            "members": ids,
            "score": abs(score),
            "best_ingredient": abs(best),
            "metric": self._fitting.spec.metric,
            "kept": kept,
        }

    def _mix(self, members: tuple[int, ...]) -> _Mixed:
        from orchestrator.search.predict_members import predict_module
        from trainables.config import TrainConfig
        from trainables.soup import mix

        key = tuple(sorted(members))
        if key not in self._mixed:
            config = TrainConfig.from_dict(self._group[0].config)
            soup = mix(config, [self._fitting.context.workspace.weights(self._group[m].trial_id) for m in key], self._splits)
            self._mixed[key] = _Mixed(soup.weights, soup.module, predict_module(soup.module, self._splits.val.images))
        return self._mixed[key]

    def _save(self, trial_id: str, members: tuple[int, ...]) -> None:
        from trainables.checkpoint import save_weights
        from trainables.metrics import evaluate_probabilities

        weights, module, probs_NC = self._mix(members)
        workspace, first = self._fitting.context.workspace, self._group[0]
        self._fitting.bank.put(trial_id, "val", probs_NC)
        pipeline = json.dumps(module.pipeline.to_dict())
        save_weights(workspace.weights(trial_id), weights, metadata={"pipeline": pipeline})
        metrics = evaluate_probabilities(probs_NC, self._splits.val.targets)
        workspace.save_record(
            first.replace(
                trial_id=trial_id, kind="soup", parent=first.trial_id, config_hash=f"soup-{first.config_hash}",
                metrics={f"val/{key}": value for key, value in metrics.items()}, status="finished", stop_reason="", seconds=0.0,
            )
        )  # fmt: skip
