"""Members from MLflow: runs that logged their predictions as files, laid out as a folder for `--external`.

A run's artifacts hold, at their root, val_probs and val_labels, and perhaps test_probs and test_labels, each .npy, .npz or
.csv: probabilities [N, C], or class indices [N] for a hard vote. Labels need be there in one of the runs only.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.external_files import ENDINGS, LABELS, read_array

if TYPE_CHECKING:
    from orchestrator.context import Say

PREFIX = "mlflow:"
SPLITS = ("val", "test")
FILES = tuple(f"{split}_{what}" for split in SPLITS for what in ("probs", "labels"))


def fetch_members(source: str, experiment: Experiment, say: Say) -> Path:
    """Fetch the members that `source` ("mlflow:EXPERIMENT", "mlflow:RUN_ID,RUN_ID") names; returns their folder."""
    from orchestrator.tracking import resolve_uri
    from orchestrator.tracking.downloads import download
    from orchestrator.tracking.preflight import check_tracking
    from orchestrator.tracking.uri import NONE, shown

    asked, uri = source.removeprefix(PREFIX), resolve_uri(experiment)
    if uri == NONE:
        raise UserError(f"--external {source}: tracking.uri is none; add -o tracking.uri=ADDRESS")
    folder = Path(experiment.run_dir).expanduser().absolute() / f"external-{re.sub(r'[^A-Za-z0-9_-]+', '_', asked)[:80]}"
    if any((folder / name).exists() for name in ("experiment.json", "ledger.jsonl")):
        raise UserError(f"--external {source}: {folder} is the folder of a run; choose another with -o run_dir=PATH")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"--external {source}: tracking.uri: no database at {shown(uri)}; name the one that holds the runs")
    check_tracking(uri)
    with tempfile.TemporaryDirectory() as scratch:
        runs = download(asked, uri, Path(scratch), wanted=lambda path: _stem(path) in FILES)
        members = {name: _arrays(path) for name, path in runs.items()}
    members = {name: arrays for name, arrays in members.items() if "val_probs" in arrays or "val_labels" in arrays}
    say(f"{source} at {shown(uri)}: {sum('val_probs' in a for a in members.values())} runs with predictions -> {folder}")
    _lay_out(source, members, folder)
    return folder


def _stem(path: str) -> str:
    file = Path(path)
    return file.stem if file.suffix in ENDINGS else ""


def _arrays(folder: Path) -> dict[str, NDArray[Any]]:
    return {path.stem: read_array(path, "labels" if "labels" in path.stem else "probabilities") for path in folder.iterdir()}


def _lay_out(source: str, members: Mapping[str, Mapping[str, NDArray[Any]]], folder: Path) -> None:
    """Write the splits that every member has, each with its labels, over what an earlier call left."""
    predicting = {name: arrays for name, arrays in members.items() if "val_probs" in arrays}
    if len(predicting) < 2:
        raise UserError(
            f"--external {source}: {len(predicting)} runs with val_probs.npy among their artifacts, an ensemble needs 2; "
            "log them with mlflow.log_artifact (val_probs, val_labels, and test_probs, test_labels where there is a test split)"
        )
    splits = [split for split in SPLITS if all(f"{split}_probs" in arrays for arrays in predicting.values())]
    shutil.rmtree(folder, ignore_errors=True)
    for split in splits:
        place = folder / split if "test" in splits else folder
        place.mkdir(parents=True)
        np.save(place / f"{LABELS}.npy", _labels(source, members, f"{split}_labels"))
        for name, arrays in predicting.items():
            np.save(place / f"{name}.npy", arrays[f"{split}_probs"])


def _labels(source: str, members: Mapping[str, Mapping[str, NDArray[Any]]], file: str) -> NDArray[Any]:
    """Return the labels that the runs logged; raises UserError where there are none, or not the same in all."""
    logged = {name: arrays[file] for name, arrays in members.items() if file in arrays}
    if not logged:
        raise UserError(f"--external {source}: none of the runs has {file}.npy among its artifacts")
    first, *others = logged
    for name in others:
        if not np.array_equal(logged[first], logged[name]):
            raise UserError(f"--external {source}: {file} of {name} differ from those of {first}: predictions of other images?")
    return logged[first]
