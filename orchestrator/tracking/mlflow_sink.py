"""What each event of the journal becomes in MLflow: a parent run, a nested run a trial, a run a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.tracking.journal import Event
from orchestrator.tracking.mlflow_runs import Key, MlflowRuns, Run
from orchestrator.tracking.naming import cut, flat_params, safe_tags, split_finite

ENDED = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's status of ours; a trial stopped by the scheduler ended as it should."""
FIGURES = "figures"
PARENT: Key = ("search", "")


@dataclass
class _Unsent:
    """What the events at hand tell of one trial; times in ms since 1970."""

    first: int
    last: int = 0
    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    status: str = ""


class MlflowSink:
    """Receives events in order; receiving one twice writes the same rows again, which MLflow keeps once."""

    def __init__(self, runs: MlflowRuns, *, name: str, tags: dict[str, str]) -> None:
        self._runs, self._name, self._tags = runs, name, tags
        self._unsent: dict[str, _Unsent] = {}
        self._handlers: dict[str, Callable[[Event], None]] = {
            "search_started": self._search_started,
            "trial_started": self._trial_started,
            "trial_epoch": self._trial_epoch,
            "trial_ended": self._trial_ended,
            "stage": self._stage,
            "search_ended": self._search_ended,
        }

    def open(self) -> bool:
        """Connect; return whether MLflow knows any run of this journal."""
        return self._runs.connect()

    def deliver(self, events: Sequence[Event]) -> None:
        """Write events, what they tell of one trial together: MLflow takes its time for each call."""
        self._unsent.clear()
        for event in events:
            handler = self._handlers.get(event.kind)
            if handler is not None:
                handler(event)
        for trial_id in list(self._unsent):
            self._send(trial_id)

    def _search_started(self, event: Event) -> None:
        run = self._parent(event.time)
        tags = {"status": "running"} | safe_tags(event.data["tags"])
        self._runs.write(run, params=flat_params(event.data["params"]), tags=tags)
        self._runs.set_status(run, "RUNNING", event.time)

    def _search_ended(self, event: Event) -> None:
        run, status = self._parent(event.time), event.data["status"]
        self._runs.write(run, metrics=_metrics(event.data["metrics"], event.time, 0), tags={"status": status})
        self._runs.upload(run, _paths(event.data["figures"]), FIGURES)
        self._runs.set_status(run, ENDED.get(status, "FINISHED"), event.time)

    def _trial_started(self, event: Event) -> None:
        unsent = self._of(event)
        unsent.params |= flat_params(event.data["params"])
        unsent.tags |= {"status": "running"} | safe_tags(event.data["tags"])
        unsent.status = "RUNNING"

    def _trial_epoch(self, event: Event) -> None:
        unsent, epoch = self._of(event), event.data["epoch"]
        unsent.metrics += _metrics(event.data["metrics"], event.time, epoch)
        unsent.tags |= {f"nonfinite.{name}": f"epoch {epoch}" for name in event.data["dropped"]}

    def _trial_ended(self, event: Event) -> None:
        record = event.data["record"]
        unsent, params = self._of(event, record["trial_id"]), flat_params(record["config"])
        if any(unsent.params.get(name, value) != value for name, value in params.items()):
            self._send(record["trial_id"])  # what it began with stays, what has changed becomes a tag
            unsent = self._of(event, record["trial_id"])
        unsent.params |= params
        unsent.metrics += _metrics(_best(record), event.time, 0)
        unsent.tags |= _record_tags(record)
        unsent.status = ENDED.get(record["status"], "RUNNING")
        unsent.files = _paths(event.data["figures"])
        self._send(record["trial_id"])

    def _of(self, event: Event, trial_id: str = "") -> _Unsent:
        """Return what is still to be sent of an event's trial."""
        unsent = self._unsent.setdefault(trial_id or event.data["trial_id"], _Unsent(event.time))
        unsent.last = event.time
        return unsent

    def _send(self, trial_id: str) -> None:
        """Write what was gathered of a trial to its run."""
        unsent = self._unsent.pop(trial_id)
        tags = self._trial_tags(trial_id, unsent.first)
        run = self._runs.get(("trial", trial_id), name=trial_id, tags=tags, started=unsent.first)
        self._runs.write(run, metrics=unsent.metrics, params=unsent.params, tags=tags | unsent.tags)
        self._runs.upload(run, unsent.files, FIGURES)
        if unsent.status:
            self._runs.set_status(run, unsent.status, unsent.last)

    def _stage(self, event: Event) -> None:
        name = event.data["name"]
        tags = self._tags | {"search_id": self._runs.search_id, "kind": "stage", "stage": name}
        run = self._runs.get(("stage", name), name=f"{self._name}: {name}", tags=tags, started=event.time)
        kept, dropped = split_finite(event.data["metrics"])
        tags |= safe_tags(event.data["tags"]) | {f"nonfinite.{metric}": "stage" for metric in dropped}
        self._runs.write(run, metrics=_metrics(kept, event.time, 0), params=flat_params(event.data["params"]), tags=tags)
        self._runs.upload(run, _paths(event.data["artifacts"]), name)
        self._runs.set_status(run, "FINISHED", event.time)

    def _parent(self, time: int) -> Run:
        tags = self._tags | {"search_id": self._runs.search_id, "kind": "search"}
        return self._runs.get(PARENT, name=self._name, tags=tags, started=time)

    def _trial_tags(self, trial_id: str, time: int) -> dict[str, str]:
        known = {"search_id": self._runs.search_id, "kind": "trial", "trial_id": trial_id}
        return self._tags | known | {"mlflow.parentRunId": self._parent(time).run_id}


def _metrics(values: dict[str, float], time: int, step: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, time, step) for name, value in split_finite(values)[0].items()]


def _best(record: dict[str, Any]) -> dict[str, float]:
    """Return a trial's summary, logged at step 0 so that MLflow compares trials by bars rather than by lone points."""
    best = {f"best/{name}": value for name, value in record["metrics"].items() if name.startswith("val/")}
    return best | {name: float(record[name]) for name in ("epochs_run", "best_epoch", "seconds", "peak_memory_mb")}


def _record_tags(record: dict[str, Any]) -> dict[str, str]:
    names = ("kind", "status", "stop_reason", "config_hash", "data_fingerprint", "parent", "device", "trainable")
    tags = {name: record[name] for name in names} | {"model": record["config"].get("model", ""), "seed": record["seed"]}
    return safe_tags(tags) | ({"error": cut(record["error"], 5000)} if record["error"] else {})


def _paths(paths: Sequence[str]) -> list[Path]:
    return [Path(path) for path in paths]
