"""An ensemble of predictions made elsewhere: a folder of probabilities (or hard labels) and labels, judged without any run.

DIR/val and DIR/test hold a file a member and `labels`; or DIR holds them directly and half of the rows choose, half judge.
A member is .npy (array), .npz (the array "probabilities", or its only one) or .csv (a header is skipped): [N, C], or class
indices [N] for a hard vote. Members that MLflow holds are laid out as such a folder first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config import Experiment
from orchestrator.errors import RunFailed, UserError
from orchestrator.stages.external_files import ENDINGS, LABELS, read_array
from orchestrator.stages.external_mlflow import PREFIX, fetch_members
from orchestrator.stages.fitting import ensemble_spec
from orchestrator.stages.judgement import diversity_facts, table
from orchestrator.store.workspace import Workspace, write_json

if TYPE_CHECKING:
    from orchestrator.context import Say
    from orchestrator.ensemble.build import EnsembleSpec
    from orchestrator.ensemble.ensemble import Ensemble

FEWEST_ROWS = 20


@dataclass(frozen=True)
class Part:
    """One split of a folder: labels [N] and predictions [N, C] by member."""

    labels: NDArray[Any]
    members: dict[str, NDArray[np.float32]]

    def take(self, rows: NDArray[np.int64]) -> Part:
        """Return some of the rows."""
        return Part(self.labels[rows], {name: probs[rows] for name, probs in self.members.items()})


def run_external(source: str, experiment: Experiment, say: Say) -> Workspace:
    """Build and judge an ensemble of a folder's members, write DIR/ensemble.json, and return the folder; raises UserError.

    `source` is the folder, or "mlflow:EXPERIMENT" or "mlflow:RUN_ID,RUN_ID": those are laid out as one first.
    """
    folder = fetch_members(source, experiment, say) if source.startswith(PREFIX) else Path(source)
    return _run_folder(folder, experiment, say)


def _run_folder(folder: Path, experiment: Experiment, say: Say) -> Workspace:
    from orchestrator.ensemble.build import fit_controls, fit_ensemble
    from orchestrator.ensemble.judge import judge

    val, test, hard = load_folder(folder, seed=experiment.seed, regression=experiment.data.task == "regression")
    spec, ids = _spec(experiment, hard=hard), sorted(val.members)
    kind = "hard labels" if hard else "predictions"
    say(f"{folder}: {kind} of {len(ids)} members; {len(val.labels)} rows choose, {len(test.labels)} judge")
    arrays = [val.members[i] for i in ids]
    try:
        chosen = fit_ensemble(arrays, val.labels, spec=spec, member_ids=ids, seed=experiment.seed)
        controls = fit_controls(
            arrays, val.labels, ensemble=chosen, spec=spec, member_ids=ids, seed=experiment.seed
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    tables = {
        name: table(judge(chosen, controls, part.members, part.labels, seed=experiment.seed), name)
        for name, part in (("test", test), ("val", val))
    }
    workspace = Workspace(folder)
    write_json(workspace.ensemble, _describe(chosen, controls, tables, val))
    verdict = tables["test"]["verdict"]
    if experiment.ensemble.require_gain and not verdict["gain"]:
        raise RunFailed(f"ensemble.require_gain: {verdict['text']}")
    return workspace


def load_folder(folder: Path, *, seed: int, regression: bool = False) -> tuple[Part, Part, bool]:
    """Return the part that chooses, the part that judges, and whether there are hard labels among them (then all are)."""
    if not folder.is_dir():
        raise UserError(f"--external: no folder at {folder}; give one with a file of predictions a member and {LABELS}.npy")
    split = all((folder / name).is_dir() for name in ("val", "test"))
    parts = [_read(folder / name if split else folder, regression=regression) for name in (("val", "test") if split else ("",))]
    if split and set(parts[0].members) != set(parts[1].members):
        odd = sorted(set(parts[0].members) ^ set(parts[1].members))
        raise UserError(f"{folder}: members must be in both val and test; only in one: {', '.join(odd[:5])}")
    hard = any(probs.ndim == 1 for part in parts for probs in part.members.values())
    if hard:
        classes = 1 + max(int(array.max()) for part in parts for array in (part.labels, *map(_votes, part.members.values())))
        parts = [_ballots(part, classes) for part in parts]
    if split:
        return parts[0], parts[1], hard
    if len(parts[0].labels) < FEWEST_ROWS:
        raise UserError(f"{folder}: {len(parts[0].labels)} rows; needs {FEWEST_ROWS} to choose on half and judge on the other")
    order = np.random.default_rng([seed, 11]).permutation(len(parts[0].labels))
    half = len(order) // 2
    return parts[0].take(np.sort(order[:half])), parts[0].take(np.sort(order[half:])), hard


def _read(folder: Path, *, regression: bool) -> Part:
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in ENDINGS and path.is_file()}
    if LABELS not in files or len(files) < 2:
        raise UserError(f"{folder}: needs {LABELS}.npy, .npz or .csv and a file a member beside it; found {sorted(files)}")
    labels = read_array(files.pop(LABELS), "labels").reshape(-1)
    members = {}
    for name, path in files.items():
        found = read_array(path, "probabilities")
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim not in (1, 2) or len(found) != len(labels):
            raise UserError(f"{path}: holds {found.shape}, expected [{len(labels)}, C] or [{len(labels)}] as there are labels")
        if found.ndim == 1 and not regression and not _whole(found):
            raise UserError(f"{path}: one number a row, and not a class index; for regression add -o data.task=regression")
        members[name] = found.astype(np.float32).reshape(len(labels), -1) if regression else found.astype(np.float32)
    if not regression and not _whole(labels):
        raise UserError(f"{folder}: labels must be class indices from 0; for regression add -o data.task=regression")
    return Part(labels.astype(np.float64 if regression else np.int64), members)


def _whole(found: NDArray[Any]) -> bool:
    return bool(np.isfinite(found).all() and (found >= 0).all() and (found == np.round(found)).all())


def _votes(probs: NDArray[np.float32]) -> NDArray[Any]:
    """Return the class that each row votes for."""
    return probs if probs.ndim == 1 else probs.argmax(axis=1)


def _ballots(part: Part, classes: int) -> Part:
    """Return the members as one-hot rows: only their votes count."""
    eye = np.eye(classes, dtype=np.float32)
    return Part(part.labels, {name: eye[_votes(probs).astype(np.int64)] for name, probs in part.members.items()})


def _spec(experiment: Experiment, *, hard: bool) -> EnsembleSpec:
    """Return what is asked; of hard labels it can only be a vote chosen by its accuracy."""
    import dataclasses

    spec = ensemble_spec(experiment)
    if not hard:
        return spec
    return dataclasses.replace(
        spec,
        method="greedy",
        metric="accuracy",
        select_by="accuracy",
        voting="hard",
        calibrate=False,
        calibration="temperature",
    )


def _describe(
    chosen: Ensemble, controls: Mapping[str, Ensemble], tables: Mapping[str, Mapping[str, Any]], val: Part
) -> dict[str, Any]:
    from orchestrator.stages.family import voting_json

    members: Sequence[NDArray[np.float32]] = [val.members[i] for i in chosen.member_ids]
    return {
        "version": 1,
        "metric": chosen.metric,
        "ensemble": voting_json(chosen),
        "single": voting_json(controls["best single"]),
        "controls": {name: list(control.member_ids) for name, control in controls.items()},
        "judgement": tables["test"],
        "validation": tables["val"],
        "diversity": diversity_facts(members, chosen.weights, val.labels),
        "pool": sorted(val.members),
    }
