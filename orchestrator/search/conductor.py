"""The course of a search, whoever runs the trials: what starts next, who goes on, what is told to whom, what is kept."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.search.algorithms import Proposer
from orchestrator.search.board import DONE, Board, Row
from orchestrator.search.ending import final_record, headline, hopeless, left_record, sentence, take_over
from orchestrator.search.ledger import Event, Ledger, TrialLog, apply, read_events, spec_to
from orchestrator.search.progress import Progress, Silent
from orchestrator.search.retention import Retention
from orchestrator.search.schedulers import Keep, Release, Scheduler, Verdict
from orchestrator.search.telling import changes, numbers_taken, params_of, tags_of
from orchestrator.store.records import MemberRecord, TrialSpec, mode_of
from orchestrator.store.workspace import Workspace
from orchestrator.tracking.tracker import Tracker

Figures = Callable[[MemberRecord, Mapping[int, Mapping[str, float]]], Sequence[Path]]
"""Draws a trial's figures from its record and its metrics by epoch."""
Worth = Callable[[MemberRecord], float | None]
"""What the searcher is told of a trial in place of its own best score (None: that score)."""
MakeSpec = Callable[[int, Mapping[str, Any]], TrialSpec]
"""Makes the n-th trial of what a proposer gave."""


@dataclass(frozen=True)
class Policy:
    """What a search keeps to, whatever is searched."""

    metric: str
    max_failures: int
    keep_weights: int
    disk_cap_gb: float
    fingerprint: str = ""


@dataclass(frozen=True)
class Source:
    """Where new trials come from, until there are `total`."""

    proposer: Proposer
    make: MakeSpec
    total: int
    places: Mapping[str, Any] = field(default_factory=dict)
    """Where the files lie that configurations name: they may have moved since."""


class Conductor:
    """One search (with a source and a scheduler) or one list of specs, on its way; not thread-safe, one caller at a time."""

    def __init__(
        self, workspace: Workspace, policy: Policy, *, tracker: Tracker, progress: Progress, scheduler: Scheduler | None = None,
        source: Source | None = None, figures: Figures | None = None, worth: Worth | None = None,
    ) -> None:  # fmt: skip
        self._workspace, self._policy, self._tracker, self._progress = workspace, policy, tracker, progress
        self._scheduler: Scheduler = scheduler or Keep()
        self._source, self._figures, self._worth = source, figures, worth
        self._places = source.places if source is not None else {}
        self._sign = 1.0 if mode_of(policy.metric) == "max" else -1.0
        self._key = f"val/{policy.metric}"
        self._retention = Retention(workspace, policy.metric, keep=policy.keep_weights, cap_gb=policy.disk_cap_gb)
        self._logs: dict[str, TrialLog] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._queue: deque[TrialSpec] = deque()
        self._live: set[str] = set()
        self._mine: list[str] = []
        self._exhausted = source is None
        self._begun = time.monotonic()
        self.board = Board(policy.metric, mode_of(policy.metric), total=source.total if source else 0)
        events = read_events(workspace.ledger)
        self._ledger = Ledger(workspace.ledger)
        if source is not None:
            self._scheduler.expect(source.total)
        self._replay(events)

    # --- what came before -------------------------------------------------------------------------------------------

    def _replay(self, events: Iterable[Event]) -> None:
        """Live through the ledger again: proposals, rungs and ends, in its order."""
        for event in events:
            apply(self._logs, event)
            log = self._logs.get(event.get("trial_id", ""))
            if event["event"] == "released":
                self._verdicts |= {release.trial_id: Verdict.GO_ON for release in self._scheduler.release()}
            if self._source is None or log is None or log.spec.kind != "trial":
                continue
            self._relive(event, log)
        if self._source is not None:
            self._take_up()

    def _relive(self, event: Event, log: TrialLog) -> None:
        assert self._source is not None
        trial_id = log.spec.trial_id
        if event["event"] == "created":
            self._scheduler.admit(trial_id, log.spec.config)
            self._source.proposer.recall(trial_id, log.drawn)
            self._add(log.spec)
        elif event["event"] == "epoch":
            self._judge(trial_id, event["epoch"], event["metrics"])
        elif event["event"] == "ended":
            self._leave(trial_id, log)

    def _take_up(self) -> None:
        """Queue the unfinished trials again, and end those that had only not been told."""
        for trial_id in self._mine:
            log, verdict = self._logs[trial_id], self._verdicts.get(trial_id)
            if log.status:
                continue
            if verdict in (Verdict.STOP, Verdict.WAIT):  # where it waits, it may also have ended for good
                self.ended(trial_id)
            else:
                log.spec = dataclasses.replace(log.spec, config={**log.spec.config, **self._places})
                self._queue.append(log.spec)

    def add_specs(self, specs: Sequence[TrialSpec]) -> None:
        """Queue a list of trials: those that ended are not run again, unfinished ones go on, barren ones are made anew."""
        for spec in specs:
            log = self._logs.get(spec.trial_id)
            if log is None or log.barren:
                self._create(spec, {})
            else:
                self._add(log.spec)
            if not self._logs[spec.trial_id].status:
                self._logs[spec.trial_id].spec = spec  # the same one, but for where its files lie now
                self._queue.append(spec)
        self.board.total = len(self._mine)

    def identity(self, values: Mapping[str, Any]) -> None:
        """Write down what makes the trials of this run folder what they are."""
        self._ledger.append("identity", values=dict(values))

    def opened(self, **facts: Any) -> None:
        """Write down that a driver starts (or goes on) with these facts."""
        self._ledger.append("opened", **facts)

    # --- what a backend asks and tells ------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        """Return how many trials are being trained."""
        return len(self._live)

    @property
    def left(self) -> int:
        """Return how many trials have not ended, those still to be proposed too."""
        return self.board.total - self.board.count(*DONE)

    @property
    def finished(self) -> bool:
        """Return whether nothing runs, waits or is left to propose."""
        return not self._live and not self._queue and self._exhausted and not self._waiting()

    @property
    def pending(self) -> bool:
        """Return whether there is anything to do, before a backend is started for it."""
        return bool(self._queue or self._waiting() or (self._source and len(self._mine) < self._source.total))

    @property
    def ids(self) -> list[str]:
        """Return the ids of this search's trials (or of the listed specs), in order."""
        return list(self._mine)

    def next_spec(self) -> TrialSpec | None:
        """Return the next trial to start, or None when there is none now (see `finished`)."""
        if not self._queue:
            self._release()
        if not self._queue:
            self._propose()
        if not self._queue:
            return None
        spec = self._queue.popleft()
        self._live.add(spec.trial_id)
        return dataclasses.replace(spec, waits=self._scheduler.waits(spec.config))

    def started(self, trial_id: str) -> None:
        """Hear that a worker has a trial."""
        first = self._logs[trial_id].first
        self._ledger.append("started", trial_id)
        self.board.rows[trial_id].status = "running"
        self._tracker.trial_started(trial_id, params_of(first), tags_of(first, self._policy.fingerprint))
        self._show()

    def epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Verdict:
        """Hear of an epoch and decide; one that the ledger holds already changes nothing and gets the old verdict."""
        log = self._logs[trial_id]
        if epoch in log.epochs:
            return self._verdicts.get(trial_id, Verdict.GO_ON) if epoch == max(log.epochs) else Verdict.GO_ON
        finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        apply(self._logs, self._ledger.append("epoch", trial_id, epoch=epoch, metrics=finite))
        self._tracker.trial_epoch(trial_id, {**metrics, **numbers_taken(log)}, epoch)
        self.board.trained, self.board.epoch_s = self.board.trained + 1, self.board.epoch_s + finite.get("epoch_seconds", 0.0)
        verdict = self._judge(trial_id, epoch, finite)
        self._show()
        return verdict

    def ended(self, trial_id: str, error: str = "") -> None:
        """Hear that a worker let go of a trial: done, told to stop or wait, or (with `error`) lost."""
        self._live.discard(trial_id)
        log = self._logs[trial_id]
        record = self._final(trial_id, error=error)
        if record.status == "running":  # it waits for the rest of its round
            self._workspace.save_record(record)
            self.board.rows[trial_id].status = "waiting"
            return
        if record.status == "failed" and log.retries < self._policy.max_failures and not hopeless(record):
            apply(self._logs, self._ledger.append("retried", trial_id, error=record.error))
            self._queue.append(log.spec)
            self._show(f"{trial_id} failed, tried again from its last checkpoint: {headline(record.error)}")
            return
        self._end(record)

    def say(self, sentence: str) -> None:
        """Tell whoever is watching, and nobody else."""
        self._show(sentence)

    def note(self, event: str, sentence: str, **facts: Any) -> None:
        """Write down and show something worth knowing of how the trials were run."""
        self._ledger.append(event, **facts)
        self._show(sentence)

    def completed(self) -> None:
        """Write down that nothing is left to do (a grid may end before the planned number of trials)."""
        self._ledger.append("closed", trials=len(self._mine))

    def stop_all(self, reason: str) -> None:
        """End every trial that is under way as stopped for `reason` (a spent time budget), and propose no more."""
        self._queue.clear()
        self._exhausted = True
        self._ledger.append("closed", trials=len(self._mine), reason=reason)
        for trial_id in [*self._mine]:
            if not self._logs[trial_id].status:
                self._live.discard(trial_id)
                self._verdicts[trial_id] = Verdict.STOP
                self._end(self._final(trial_id, reason=reason))

    def interrupted(self, reason: str) -> None:
        """Write down that the driver is about to end early; the trials under way keep their checkpoints and go on later."""
        self._ledger.append("interrupted", reason=reason)
        for trial_id in self._mine:
            if not self._logs[trial_id].status and self._workspace.record(trial_id).exists():
                found = left_record(self._workspace, self._logs[trial_id], self._policy.fingerprint)
                record = found.replace(status="interrupted", stop_reason=reason)
                self._workspace.save_record(record)
                self._tracker.trial_ended(record)

    def tidy(self) -> None:
        """Drop states that a worker was still writing when its trial ended."""
        self._retention.sweep(unfinished=self._unfinished())

    def close(self) -> None:
        """Close the ledger and the progress display."""
        self.board.elapsed = time.monotonic() - self._begun
        self._progress.close(self.board)
        self._ledger.close()

    # --- the parts --------------------------------------------------------------------------------------------------

    def _unfinished(self) -> list[str]:
        return [trial_id for trial_id, log in self._logs.items() if not log.status]

    def _waiting(self) -> bool:
        return any(not self._logs[t].status and self._verdicts.get(t) is Verdict.WAIT for t in self._mine)

    def _propose(self) -> None:
        if self._source is None or self._exhausted:
            return
        index = len(self._mine)
        if index >= self._source.total:
            self._exhausted = True
            return
        name = f"t{index:04d}"
        drawn = self._source.proposer.ask(name)
        if drawn is None:
            self._exhausted = True
            self.board.total = index
            self._scheduler.expect(index)
            self._release()
            return
        spec = dataclasses.replace(self._source.make(index, drawn), trial_id=name)
        self._create(spec, drawn)
        self._scheduler.admit(name, spec.config)
        self._queue.append(spec)

    def _create(self, spec: TrialSpec, drawn: Mapping[str, Any]) -> None:
        apply(self._logs, self._ledger.append("created", spec.trial_id, spec=spec_to(spec), drawn=dict(drawn)))
        self._add(spec)

    def _add(self, spec: TrialSpec) -> None:
        self._mine.append(spec.trial_id)
        self.board.rows[spec.trial_id] = row = Row(spec.trial_id, int(spec.config.get("epochs", 0)))
        log = self._logs[spec.trial_id]
        row.status, row.epoch = log.status or row.status, max(log.epochs, default=0)
        for metrics in log.epochs.values():
            self._score(row, metrics)

    def _judge(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Verdict:
        row = self.board.rows[trial_id]
        row.epoch = max(row.epoch, epoch)
        self._score(row, metrics)
        value = metrics.get(self._key, float("nan"))
        score = self._sign * value if math.isfinite(value) else -math.inf
        verdict = Verdict.GO_ON
        if self._source is not None:
            verdict = self._scheduler.judge(trial_id, epoch, score)
        self._verdicts[trial_id] = verdict
        return verdict

    def _score(self, row: Row, metrics: Mapping[str, float]) -> None:
        value = metrics.get(self._key, float("nan"))
        if math.isfinite(value) and not self._sign * value <= self._sign * row.best:
            row.best = value

    def _release(self) -> None:
        if any(self._verdicts.get(trial_id) is Verdict.WAIT for trial_id in self._live):
            return  # its worker has still to let go of it, and to say whether it is over
        released = self._scheduler.release()
        for release in released:
            self._verdicts[release.trial_id] = Verdict.GO_ON
            if release.source:
                self._exploit(release)
        if released:
            if not any(release.source for release in released):
                said = "a round is over in which no trial could take over another's state: that takes two of the same shape"
                self._show(said)
            self._ledger.append("released")
            self._queue.extend(self._logs[release.trial_id].spec for release in released)

    def _exploit(self, release: Release) -> None:
        log = self._logs[release.trial_id]
        spec = dataclasses.replace(log.spec, config=dict(release.config or {}))
        take_over(self._workspace, release.trial_id, release.source)
        was = log.spec.config
        apply(self._logs, self._ledger.append("exploited", release.trial_id, spec=spec_to(spec), source=release.source))
        self._show(f"{release.trial_id} goes on from {release.source}{changes(was, spec.config)}")

    def _end(self, record: MemberRecord) -> None:
        trial_id = record.trial_id
        self._workspace.save_record(record)
        log = self._logs[trial_id]
        reason = record.stop_reason or headline(record.error)
        told = self._worth(record) if self._worth is not None and record.usable else None
        more = {} if told is None else {"told": told}
        apply(self._logs, self._ledger.append("ended", trial_id, status=record.status, reason=reason, **more))
        self._leave(trial_id, log)
        self._tracker.trial_ended(record, self._draw(record, log))
        self._retention.tidy(record, unfinished=self._unfinished())
        self._show(sentence(record, self._policy.metric))

    def _leave(self, trial_id: str, log: TrialLog) -> None:
        row = self.board.rows[trial_id]
        row.status = log.status
        if self._source is not None:
            self._scheduler.leave(trial_id)
            score = row.best if log.told is None else log.told
            self._source.proposer.tell(trial_id, status=log.status, score=score, epoch=max(log.epochs, default=0))

    def _draw(self, record: MemberRecord, log: TrialLog) -> Sequence[Path]:
        """Draw a trial's figures; what goes wrong there costs the figures, not the search."""
        if self._figures is None:
            return ()
        try:
            return self._figures(record, log.epochs)
        except Exception as error:
            self._show(f"{record.trial_id}: no figures ({error})")
            return ()

    def _final(self, trial_id: str, *, error: str = "", reason: str = "scheduler") -> MemberRecord:
        verdict = self._verdicts.get(trial_id, Verdict.GO_ON)
        fingerprint = self._policy.fingerprint
        return final_record(
            self._workspace, self._logs[trial_id], verdict=verdict, error=error, reason=reason, fingerprint=fingerprint
        )

    def _show(self, event: str = "") -> None:
        """Show the board; a terminal that fails costs the view, not the search."""
        self.board.elapsed = time.monotonic() - self._begun
        try:
            self._progress.show(self.board, event)
        except Exception:
            self._progress = Silent()
