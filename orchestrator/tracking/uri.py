"""Which MLflow hears of a run: the address from the experiment, the environment or the run folder, checked at the door."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.config import Experiment

NONE = "none"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


def resolve_uri(experiment: Experiment) -> str:
    """Return an absolute tracking address, or "none"; raises UserError for one that MLflow would not take."""
    uri = experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return f"sqlite:///{_runs(experiment) / DATABASE}"
    if uri.lower() == NONE:
        return NONE
    scheme = uri.split(":", 1)[0].split("+", 1)[0]
    if scheme not in SCHEMES:
        raise UserError(
            f"tracking.uri: got {uri!r}, allowed: sqlite:///PATH, http(s)://HOST:PORT, a database address, or none; "
            "MLflow no longer keeps runs in a plain folder"
        )
    if scheme == "sqlite":
        path = uri.split(":///", 1)[1] if ":///" in uri else ""
        if not path:
            raise UserError(f"tracking.uri: got {uri!r}, allowed: sqlite:///PATH of a database file")
        return f"sqlite:///{Path(path).expanduser().absolute()}"
    return uri.rstrip("/")


def artifacts_root(uri: str, experiment: Experiment) -> Path | None:
    """Return where a database's artifacts lie (beside the SQLite file); None for a server, which decides itself."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS
    return None if uri.startswith(("http", "databricks")) else _runs(experiment) / ARTIFACTS


def shown(uri: str) -> str:
    """Return the address without its password."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", uri)


def host_and_port(uri: str) -> tuple[str, int] | None:
    """Return where an address connects to; None for a file or an address without a port we know."""
    parts = urlsplit(uri)
    known = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
    port = parts.port or known.get(parts.scheme.split("+", 1)[0], 0)
    return (parts.hostname, port) if parts.hostname and port else None


def _runs(experiment: Experiment) -> Path:
    return Path(experiment.run_dir).expanduser().absolute()
