"""Files that runs of MLflow logged, fetched to a folder: of an experiment by its name, or of runs by their ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.tracking.mlflow_runs import prepare_mlflow
from orchestrator.tracking.uri import shown

RUN_ID = re.compile(r"[0-9a-f]{32}")


def download(asked: str, uri: str, into: Path, *, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """Fetch the wanted files of the root of each run's artifacts; returns run name -> folder, runs without one left out.

    `asked` names an experiment (its finished runs), or holds run ids separated by commas. Raises UserError.
    """
    prepare_mlflow(uri)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.client import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        found = {}
        for name, run_id in _named(_runs(client, asked)).items():
            paths = [item.path for item in client.list_artifacts(run_id) if not item.is_dir and wanted(item.path)]
            folder = into / name
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                client.download_artifacts(run_id, path, str(folder))
            if paths:
                found[name] = folder
        return found
    except MlflowException as error:
        raise UserError(
            f"--external mlflow:{asked}: MLflow at {shown(uri)} says: {str(error).splitlines()[0][:300]}"
        ) from error


def _runs(client: Any, asked: str) -> list[Any]:
    ids = [part.strip() for part in asked.split(",")]
    if all(RUN_ID.fullmatch(part) for part in ids):
        return [client.get_run(run_id) for run_id in ids]
    experiment = client.get_experiment_by_name(asked)
    if experiment is None:
        known = ", ".join(sorted(e.name for e in client.search_experiments(max_results=20)))
        raise UserError(f"--external mlflow:{asked}: no experiment of this name; there are: {known}")
    runs: list[Any] = []
    token: str | None = None
    while token is None or token:
        page = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'", page_token=token)
        runs += page
        token = page.token or ""
    return runs


def _named(runs: Sequence[Any]) -> dict[str, str]:
    """Return a name fit for a file, and no other's, -> run id: the run's own name, with its id where two share it."""
    plain = {run.info.run_id: re.sub(r"[^A-Za-z0-9._-]+", "_", run.info.run_name or "").lstrip(".") for run in runs}
    names = list(plain.values())
    return {name if name and names.count(name) == 1 else f"{name}{run_id[:8]}": run_id for run_id, name in plain.items()}
