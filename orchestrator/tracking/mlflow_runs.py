"""MLflow's one door: which run belongs to whom, found again by tags, and batches written to it."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.tracking.naming import chunks, cut

log = logging.getLogger(__name__)
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment that keeps MLflow's client quick to fail and quiet; what the user has set wins."""

REFUSED = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "NOT_FOUND"}
)
"""Error codes that will not go away by asking again: the call is passed over, the rest goes on."""

AT_MOST = {"params": 100, "tags": 100, "metrics": 1000}
"""What MLflow takes in one call, and 1,000 of all together."""

Key = tuple[str, str]
"""("search", ""), ("trial", trial id) or ("stage", name)."""

SLOW_S = 5.0


def prepare_mlflow(uri: str) -> None:
    """Set MLflow's quiet settings and import what `uri` needs, in the caller's thread (imports in two threads may collide)."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own use of SQLAlchemy
        import mlflow.tracking.client

        if not uri.startswith(("http", "databricks")):
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@dataclass
class Run:
    """One run as MLflow knows it."""

    run_id: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "RUNNING"


class MlflowRuns:
    """The runs of one run folder (one search id) in one MLflow experiment."""

    def __init__(self, uri: str, *, experiment: str, artifacts: Path | None, search_id: str) -> None:
        self._uri, self._experiment, self._artifacts, self.search_id = uri, experiment, artifacts, search_id
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[Key, Run] = {}
        self._doubtful = True

    def connect(self) -> bool:
        """Open the store (migrating a new database), the experiment and the runs that are there; return whether any are."""
        from mlflow.tracking.client import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        self._experiment_id = self._find_experiment()
        self._find_runs()
        return bool(self._runs)

    def get(self, key: Key, *, name: str, tags: Mapping[str, str], started: int) -> Run:
        """Return the run of `key`, made now if there is none."""
        if self._doubtful:
            self._find_runs()
        if key not in self._runs:
            before = time.monotonic()
            made = self._client.create_run(self._experiment_id, start_time=started, tags=dict(tags), run_name=cut(name, 250))
            self._runs[key] = Run(made.info.run_id, tags=dict(tags))
            self._doubtful = time.monotonic() - before > SLOW_S
        return self._runs[key]

    def write(self, run: Run, *, metrics: Sequence[Any] = (), params: Mapping[str, str] | None = None,
              tags: Mapping[str, str] | None = None) -> None:  # fmt: skip
        """Log a batch; a parameter that the run already holds stays as it is, a changed one is told in a tag."""
        from mlflow.entities import Param, RunTag

        new = {name: value for name, value in (params or {}).items() if name not in run.params}
        changed = {name: value for name, value in (params or {}).items() if run.params.get(name, value) != value}
        told = dict(tags or {}) | {f"changed.{name}": f"{run.params[name]} -> {value}" for name, value in changed.items()}
        told = {name: value for name, value in told.items() if run.tags.get(name) != value}
        parts = {
            "params": [Param(name, value) for name, value in new.items()],
            "tags": [RunTag(name, value) for name, value in told.items()],
            "metrics": list(metrics),
        }
        if not self._at_once(run, parts):
            for kind, values in parts.items():
                for some in chunks(values, AT_MOST[kind]):
                    self._call(kind, run, self._client.log_batch, run.run_id, **{kind: some})
        run.params.update(new)
        run.tags.update(told)

    def _at_once(self, run: Run, parts: Mapping[str, Sequence[Any]]) -> bool:
        """Log everything in one call; return False where that is too much for one, or where some of it is refused."""
        from mlflow.exceptions import MlflowException

        if not any(parts.values()):
            return True
        if sum(map(len, parts.values())) > AT_MOST["metrics"] or any(len(parts[kind]) > most for kind, most in AT_MOST.items()):
            return False
        try:
            self._client.log_batch(run.run_id, **parts)
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            return False
        return True

    def upload(self, run: Run, paths: Sequence[Path], folder: str) -> None:
        """Upload files and folders; those that are gone by now are passed over."""
        for path in paths:
            if path.is_dir():
                self._call("files", run, self._client.log_artifacts, run.run_id, str(path), f"{folder}/{path.name}")
            elif path.exists():
                self._call("a file", run, self._client.log_artifact, run.run_id, str(path), folder)

    def set_status(self, run: Run, status: str, ended: int) -> None:
        """Set RUNNING, or end the run as FINISHED, FAILED or KILLED at `ended` (ms since 1970), unless it has that status."""
        if status == run.status:
            return
        if status == "RUNNING":
            self._call("a status", run, self._client.update_run, run.run_id, status=status)
        else:
            self._call("a status", run, self._client.set_terminated, run.run_id, status, ended)
        run.status = status

    def _call(self, what: str, run: Run, method: Any, *args: Any, **kwargs: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            method(*args, **kwargs)
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            log.warning("MLflow refused %s of run %s: %s", what, run.run_id, str(error).splitlines()[0][:300])

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            where = self._artifacts.as_uri() if self._artifacts is not None else None
            return str(self._client.create_experiment(self._experiment, artifact_location=where))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find_runs(self) -> None:
        """Read the runs of this search id; of two runs for one key (a request whose answer was lost) the newer is deleted."""
        self._runs = {}
        token: str | None = None
        while token is None or token:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.search_id = '{self.search_id}'",
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            for found in page:
                key = _key_of(found.data.tags)
                if key in self._runs:
                    self._client.delete_run(found.info.run_id)
                else:
                    self._runs[key] = Run(found.info.run_id, dict(found.data.params), dict(found.data.tags), found.info.status)
            token = page.token or ""
        self._doubtful = False


def _key_of(tags: Mapping[str, str]) -> Key:
    if "trial_id" in tags:
        return "trial", tags["trial_id"]
    return ("stage", tags["stage"]) if "stage" in tags else ("search", "")
