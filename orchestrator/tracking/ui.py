"""`orchestrate ui`: MLflow's pages for a run folder, opened at its parent run, gone without a trace on Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from orchestrator.errors import RunFailed, UserError
from orchestrator.store.records import mode_of
from orchestrator.tracking.server import mlflow_server
from orchestrator.tracking.uri import NONE, artifacts_root, resolve_uri

if TYPE_CHECKING:
    from orchestrator.config import Experiment


def serve(
    experiment: Experiment,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    say: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; with a server of its own (http), only say where the run is.

    An address that other machines reach is served with a warning. Raises UserError for a busy port, or a run that was never
    tracked.
    """
    uri, name, metric = resolve_uri(experiment), experiment.tracking_experiment, experiment.search.metric
    if uri == NONE:
        raise UserError("tracking.uri: got 'none', so there is nothing to show; leave it empty and run again")
    if uri.startswith(("http://", "https://")):
        say("\n".join(links(uri, name, metric)))
        return
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite") and not database.exists():
        raise UserError(
            f"{database}: nothing has been tracked here yet; run `orchestrate run` first, or name its experiment file"
        )
    if not is_local(host):
        say(
            f"warning: {host} is reached from other machines, and there is no login: who opens the page may change and delete "
            f"runs (safer: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE)"
        )
    artifacts = artifacts_root(uri, experiment) or database.parent
    say(f"starting MLflow at http://{host}:{port}, which takes some seconds")
    with _until_signalled(), mlflow_server(uri, artifacts, host=host, port=port) as server:
        say("\n".join([*links(server.url, name, metric), "Ctrl-C stops the server."]))
        code = server.process.wait()
        raise RunFailed(f"mlflow server ended by itself with code {code}:\n{server.tail()}")


def is_local(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def links(url: str, experiment: str, metric: str) -> list[str]:
    """Return the lines to print: the runs of an experiment, the curves of its trials, and the newest parent run."""
    found = _ask(url, f"experiments/get-by-name?experiment_name={urllib.parse.quote(experiment)}")
    if found is None:
        return [f"MLflow: {url}  (no experiment {experiment!r} there yet)"]
    number = found["experiment"]["experiment_id"]
    search = {"experiment_ids": [number], "filter": "tags.kind = 'search'", "max_results": 1}
    runs = (_ask(url, "runs/search", search) or {}).get("runs", [])
    lines = [f"runs:   {runs_page(url, number)}", f"curves: {charts_page(url, number, metric)}"]
    return lines + [f"search: {run_page(url, number, run['info']['run_id'])}" for run in runs]


def runs_page(url: str, experiment_id: str) -> str:
    """Return the page that lists the parent run with its trials under it."""
    return f"{url}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def charts_page(url: str, experiment_id: str, metric: str) -> str:
    """Return the page with the curves of all trials side by side, best first (any order but by time also unfolds them)."""
    query = {
        "searchFilter": "tags.kind = 'trial'",
        "orderByKey": f"metrics.`best/val/{metric}`",
        "orderByAsc": "true" if mode_of(metric) == "min" else "false",
        "compareRunsMode": "CHART",
    }
    return f"{runs_page(url, experiment_id)}&{urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe='')}"


def run_page(url: str, experiment_id: str, run_id: str, tab: str = "") -> str:
    """Return one run's page; `tab` is "model-metrics" or "artifacts/PATH"."""
    return f"{url}/#/experiments/{experiment_id}/runs/{run_id}{f'/{tab}' if tab else ''}?workflowType=machine_learning"


def _ask(url: str, what: str, body: dict[str, Any] | None = None) -> Any:
    """Ask MLflow's REST; None where there is no such thing."""
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/{what}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except OSError as error:
        raise UserError(f"tracking: no MLflow server answers at {url} ({error}); start it, or correct tracking.uri") from error


@contextlib.contextmanager
def _until_signalled() -> Iterator[None]:
    """Leave the block at the first SIGINT or SIGTERM, also where the parent had them ignored; later ones change nothing."""
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
