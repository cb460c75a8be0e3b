"""Export: chosen members and their vote become a bundle, checked against the live models before it takes its place."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.deliver.bundle import RUNTIME, WEIGHTS, replaced, seal
from orchestrator.deliver.runtime import FORMAT, FORMAT_VERSION, MODEL, Graph
from orchestrator.errors import RunFailed, UserError
from orchestrator.store.records import MemberRecord

if TYPE_CHECKING:
    from torch import nn

    from trainables.data.dataset import Splits

TOLERANCE = 1e-4
"""Largest allowed difference between the exported graph and the live models, in probability."""
CHECK_IMAGES = 32
VERSIONS = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy")
Loader = Callable[[MemberRecord, Path, "Splits"], "nn.Module"]


def load_member(record: MemberRecord, weights: Path, splits: Splits) -> nn.Module:
    """Return a member as a module from uint8 images [N, H, W, C] to probabilities [N, K]."""
    from trainables.config import TrainConfig
    from trainables.inference import load_inference
    from trainables.models import member_pipeline

    config = TrainConfig.from_dict(record.config)
    pipeline = member_pipeline(config, splits, weights)
    return load_inference(config, weights, outputs=splits.outputs, channels=splits.image_shape[2], pipeline=pipeline)


def export_bundle(
    members: Sequence[tuple[MemberRecord, Path]],
    ensemble: Mapping[str, Any],
    splits: Splits,
    out: Path,
    *,
    scores: Mapping[str, Any] | None = None,
    max_pixels: int = 50_000_000,
    load: Loader = load_member,
) -> Path:
    """Write the bundle of an ensemble to `out` and return it; an older bundle there stays until the new one is whole.

    `members` are (record, weights file) in the order of `ensemble["members"]`. Raises RunFailed when the exported graph and the
    live models differ by more than `TOLERANCE` on images of the validation split, or a member's output is not finite.
    """
    from orchestrator.deliver.graph import EnsembleModule, Vote, live_probabilities, write_onnx

    vote = Vote.from_dict(ensemble)
    _check_members(members, ensemble, splits)
    modules = [load(record, weights, splits) for record, weights in members]
    images = np.ascontiguousarray(splits.val.images[:CHECK_IMAGES])
    for (record, _), module in zip(members, modules, strict=True):
        if not np.isfinite(live_probabilities(module, images)).all():
            raise RunFailed(
                f"export: member {record.trial_id} predicts NaN or infinity; leave it out and build the ensemble again"
            )
    live = EnsembleModule(modules, vote, regression=not splits.classes)
    manifest = describe(members, ensemble, splits, scores=scores or {}, max_pixels=max_pixels)
    with replaced(out) as folder:
        write_onnx(live, folder / MODEL, image_shape=splits.image_shape)
        shutil.copyfile(Path(__file__).with_name(RUNTIME), folder / RUNTIME)
        (folder / WEIGHTS).mkdir()
        for record, weights in members:
            shutil.copyfile(weights, folder / WEIGHTS / f"{record.trial_id}.safetensors")
        difference = largest_difference(folder / MODEL, images, live_probabilities(live, images))
        check = {"images": len(images), "largest_difference": difference, "tolerance": TOLERANCE}
        seal(folder, {**manifest, "check": check})
    return out


def largest_difference(graph: Path, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
    """Return the largest difference between an ONNX graph and the live models; raises RunFailed beyond the tolerance."""
    difference = float(np.abs(Graph(graph, threads=1).probabilities(images) - expected).max())
    if not difference <= TOLERANCE:
        raise RunFailed(
            f"export: the ONNX graph differs from the live models by {difference:.2g} (allowed {TOLERANCE}); nothing written"
        )
    return difference


def describe(
    members: Sequence[tuple[MemberRecord, Path]],
    ensemble: Mapping[str, Any],
    splits: Splits,
    *,
    scores: Mapping[str, Any],
    max_pixels: int,
) -> dict[str, Any]:
    """Return the manifest, but for the files and the check."""
    height, width, channels = splits.image_shape
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "task": "classification" if splits.classes else "regression",
        "classes": list(splits.classes),
        "input": {
            "height": height, "width": width, "channels": channels, "max_pixels": max_pixels,
            "decode": "EXIF orientation applied, RGB or grey, resized to just cover height x width, centre kept, uint8",
        },
        "ensemble": {
            "voting": ensemble["voting"],
            "temperature": float(ensemble.get("temperature", 1.0)),
            "head": ensemble.get("head"),
            "calibrator": ensemble.get("calibrator"),
            "members": [
                {**_member(record), "weight": float(entry["weight"]), "temperature": float(entry.get("temperature", 1.0))}
                for (record, _), entry in zip(members, ensemble["members"], strict=True)
            ],
        },
        "scores": dict(scores),
        "data": {"fingerprint": splits.fingerprint, "mean": list(splits.mean), "std": list(splits.std)},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }  # fmt: skip


def _member(record: MemberRecord) -> dict[str, Any]:
    """Return what the manifest keeps of a member."""
    kept = ("trial_id", "kind", "trainable", "config", "config_hash", "seed", "parent", "best_epoch")
    return {**{key: getattr(record, key) for key in kept}, "metrics": dict(record.metrics)}


def _check_members(members: Sequence[tuple[MemberRecord, Path]], ensemble: Mapping[str, Any], splits: Splits) -> None:
    """Refuse members that are not the ensemble's, lack their weights, or saw other data."""
    chosen = [str(entry["trial_id"]) for entry in ensemble["members"]]
    given = [record.trial_id for record, _ in members]
    if given != chosen or len(set(given)) != len(given):
        raise ValueError(f"members: got {given}, the ensemble names {chosen}")
    for record, weights in members:
        if not weights.is_file():
            raise UserError(f"member {record.trial_id}: its weights are gone ({weights}); build the ensemble again")
        if record.data_fingerprint != splits.fingerprint:
            raise UserError(
                f"member {record.trial_id} was trained on data {record.data_fingerprint}, the experiment's data is "
                f"{splits.fingerprint}; restore the data, or use another `name`"
            )
