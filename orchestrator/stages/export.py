"""Export: what the judgement recommends becomes one portable folder, and a version in MLflow's registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.context import Context
from orchestrator.errors import UserError
from orchestrator.store.workspace import read_json


def run_export(context: Context) -> Path:
    """Write the bundle of the ensemble (always the ensemble: the manifest says which model is recommended) and return it."""
    from orchestrator.deliver.export import export_bundle

    workspace = context.workspace
    if not workspace.ensemble.exists():
        raise UserError(f"{workspace.root}: no ensemble here; run `orchestrate ensemble` first")
    found = read_json(workspace.ensemble)
    chosen = found["ensemble"]
    members = [
        (workspace.load_record(member["trial_id"]), workspace.weights(member["trial_id"])) for member in chosen["members"]
    ]
    context.say(f"export: {len(members)} members into one graph")
    bundle = export_bundle(
        members, chosen, context.splits(), workspace.bundle, scores=_scores(found), max_pixels=context.data.max_pixels
    )
    context.tracker.stage(
        "export",
        params={"members": len(members), "recommended": found["judgement"]["verdict"]["recommended"]},
        metrics={},
        artifacts=[bundle / "manifest.json"],
    )
    if context.experiment.export.register_model:
        _register(context, bundle, found)
    context.say(f"bundle: {bundle}")
    return bundle


def _scores(found: dict[str, Any]) -> dict[str, Any]:
    table = found["judgement"]
    row = next(row for row in table["rows"] if row["name"] == "ensemble")
    return {"split": table["split"], "n": table["n"], "verdict": table["verdict"], "ensemble": row}


def _register(context: Context, bundle: Path, found: dict[str, Any]) -> None:
    from orchestrator.deliver.mlflow_model import register
    from orchestrator.tracking import resolve_uri

    uri = resolve_uri(context.experiment)
    if uri == "none":
        return
    context.tracker.close()
    version = register(bundle, context.experiment, uri=uri, scores=_scores(found))
    context.say(f"registered: {version}")
