"""Export: the ensemble (or another of its family) becomes one portable folder, and a version in MLflow's registry."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.context import Context
from orchestrator.errors import UserError
from orchestrator.stages.countdown import still_running
from orchestrator.store.records import mode_of
from orchestrator.store.workspace import read_json

ENSEMBLE, SINGLE = "ensemble", "best single"


def run_export(context: Context, *, max_latency: str | None = None, single: bool = False) -> Path:
    """Write a bundle and return it: of the ensemble, the best single model, or the best within a latency such as "5ms".

    Without either it is always the ensemble's; the manifest says which model is recommended. Raises UserError.
    """
    from orchestrator.deliver.export import export_bundle

    workspace = context.workspace
    if not workspace.ensemble.exists():
        first = f"run `orchestrate ensemble {shlex.quote(str(workspace.root))}` first"
        raise UserError(f"{workspace.root}: no ensemble here; {first}")
    if single and max_latency is not None:
        raise UserError("--single, --max-latency: one of them; a latency is met by the single model too where it must be")
    found = read_json(workspace.ensemble)
    name, chosen = (SINGLE, found["single"]) if single else (ENSEMBLE, found["ensemble"])
    if max_latency is not None:
        name, chosen = within(found["family"], milliseconds(max_latency))
    members = [
        (workspace.load_record(member["trial_id"]), workspace.weights(member["trial_id"])) for member in chosen["members"]
    ]
    context.say(f"export: {name}, {len(members)} member(s) into one graph")
    scores = _scores(found, name)
    with still_running(context.say, "export: writing and checking the graph"):
        bundle = export_bundle(
            members, chosen, context.splits(), workspace.bundle, scores=scores, max_pixels=context.data.max_pixels
        )
    context.tracker.stage(
        "export",
        params={"model": name, "members": len(members), "recommended": found["judgement"]["verdict"]["recommended"]},
        metrics={},
        artifacts=[bundle / "manifest.json"],
    )
    if context.experiment.export.register_model:
        _register(context, bundle, scores)
    context.say(f"bundle: {bundle}")
    return bundle


def within(family: Sequence[Mapping[str, Any]], limit_ms: float) -> tuple[str, Mapping[str, Any]]:
    """Return name and vote of the relative with the best validation score whose measured batch-1 latency is within the limit.

    The cascade is none of them: it is two models and a rule. Raises UserError when nothing is fast enough.
    """
    from orchestrator.ensemble.cheap import best_within

    rows = [row for row in family if row["ensemble"] is not None]
    sign = 1.0 if mode_of(rows[0]["metric"]) == "max" else -1.0
    costs = [float(row["latency_ms_batch_1"]) for row in rows]
    try:
        best = rows[best_within([sign * row["score"] for row in rows], costs, limit=limit_ms)]
    except ValueError:
        said = ", ".join(f"{row['name']} {cost:.2f} ms" for row, cost in zip(rows, costs, strict=True))
        raise UserError(f"--max-latency: nothing here takes at most {limit_ms:g} ms; measured: {said}") from None
    return best["name"], best["ensemble"]


def milliseconds(text: str) -> float:
    """Return a latency written as 5ms, 0.2s or 800us; raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(us|ms|s)", text.strip())
    if not found or float(found[1]) == 0:
        raise UserError(f"--max-latency: got {text!r}, expected a number above zero with its unit, e.g. 5ms, 0.2s or 800us")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def _scores(found: dict[str, Any], name: str) -> dict[str, Any]:
    table = found["judgement"]
    row = next(row for row in table["rows"] if row["name"] == name)
    return {"split": table["split"], "n": table["n"], "verdict": table["verdict"], "model": name, "ensemble": row}


def _register(context: Context, bundle: Path, scores: dict[str, Any]) -> None:
    from orchestrator.deliver.mlflow_model import register
    from orchestrator.tracking import resolve_uri

    uri = resolve_uri(context.experiment)
    if uri == "none":
        return
    context.tracker.close()
    try:
        version = register(bundle, context.experiment, uri=uri, scores=scores)
    except Exception as error:  # whatever the registry's server or its client says: the bundle is written and whole
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        context.say(f"not registered: {reason}; the bundle is complete, `orchestrate export` tries again")
        return
    context.say(f"registered: {version}")
