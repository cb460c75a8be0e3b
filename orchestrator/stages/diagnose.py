"""Diagnosis: where the baseline fails on validation, what it cannot bear, and what that asks of the search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.context import Context
from orchestrator.errors import UserError
from orchestrator.stages.baseline import BASELINE_ID
from orchestrator.store.predictions import PredictionBank
from orchestrator.store.workspace import write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.diagnosis.probe import Predict
    from orchestrator.store.records import MemberRecord
    from trainables.data.dataset import Splits


def run_diagnosis(context: Context) -> dict[str, Any]:
    """Write `diagnosis.json` and its figures from the baseline's validation predictions, and return what was found."""
    from orchestrator.diagnosis import diagnose
    from orchestrator.diagnosis.figures import save_figures

    workspace, splits = context.workspace, context.splits()
    if not workspace.weights(BASELINE_ID).exists():
        raise UserError(f"{workspace.root}: no baseline here; run `orchestrate baseline` first")
    record = workspace.load_record(BASELINE_ID)
    found = diagnose(
        PredictionBank(workspace).get(BASELINE_ID, "val"), splits, predict=_live(context, record, splits),
        seed=context.experiment.seed, train_accuracy=record.metrics.get("train/accuracy"),
    )  # fmt: skip
    write_json(workspace.diagnosis, found)
    figures = save_figures(found, splits.val.images, workspace.figures / "diagnosis")
    drops = {f"drop/{drop['name']}": float(drop["drop"]) for drop in found.get("probe", ())}
    lists = {key: ", ".join(found.get(key, ())) for key in ("recommended", "forbidden")}
    context.tracker.stage("diagnosis", params=lists, metrics=drops, artifacts=[workspace.diagnosis, *figures])
    for reason in found.get("reasons", ()) or ("nothing that asks for, or forbids, an augmentation",):
        context.say(f"diagnosis: {reason}")
    return found


def _live(context: Context, record: MemberRecord, splits: Splits) -> Predict:
    """Return the baseline as a function of stored images."""
    import torch

    from trainables.config import TrainConfig
    from trainables.inference import load_inference
    from trainables.models import input_pipeline
    from trainables.numerics import evaluation_batch

    config = TrainConfig.from_dict(record.config)
    model = load_inference(
        config, context.workspace.weights(record.trial_id), outputs=splits.outputs, channels=splits.image_shape[2],
        pipeline=input_pipeline(config, splits),
    )  # fmt: skip

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            chunks = torch.split(
                torch.from_numpy(images), config.eval_batch_size or evaluation_batch(torch.device("cpu"), images[0].size)
            )
            found: NDArray[np.float32] = torch.cat([model(chunk) for chunk in chunks]).numpy()
        return found

    return predict
