"""The nodes of a joined cluster, which come and go: counted, checked before they count, asked for, and let go again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants
from ray.autoscaler._private.util import format_readonly_node_type
from ray.autoscaler.sdk import request_resources
from ray.experimental.internal_kv import _internal_kv_get

from orchestrator.errors import UserError
from orchestrator.search.preflight import check_node, versions

POLL_S, SAY_S = 2.0, 30.0
"""How often nodes are looked at, and how often the wait for them is told."""
SURE_S, PATIENCE_S = 15.0, 1800.0
"""How long an autoscaler may take to show itself, and how long its first node may take."""
MOST_BUNDLES = 1000
GONE = (
    ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError, ray.exceptions.LocalRayletDiedError,
    ray.exceptions.TaskUnschedulableError,
)  # fmt: skip
"""A node that went away while it was looked at."""
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Room:
    """What the living nodes have: CPUs, GPUs, and how many of them have CPUs at all."""

    cpus: float = 0.0
    gpus: float = 0.0
    nodes: int = 0


def room_of(nodes: Sequence[Node]) -> Room:
    """Return what the living ones of Ray's node entries have together."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return Room(
        sum(found.get("CPU", 0.0) for found in alive), sum(found.get("GPU", 0.0) for found in alive),
        sum(bool(found.get("CPU")) for found in alive),
    )  # fmt: skip


class Checks:
    """The look from every node at the data, the run folder and the tracking server, each node once."""

    def __init__(self, data: Mapping[str, Any], root: str, tracking: str) -> None:
        self._asked = (dict(data), root, tracking, versions())
        self._known: set[str] = set()
        self._pending: dict[Any, str] = {}

    def begin(self, nodes: Sequence[Node]) -> None:
        """Start the look from the living nodes that are new."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = ray.remote(num_cpus=0, max_retries=0)(check_node)
        for node in nodes:
            if not node["Alive"] or node["NodeID"] in self._known:
                continue
            self._known.add(node["NodeID"])
            task = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                *self._asked
            )
            self._pending[task] = node["NodeManagerHostname"] or node["NodeManagerAddress"]

    def hear(self, timeout_s: float) -> None:
        """Wait so long at most for what was started; raises UserError naming all faults that were found.

        A node that is lost before its look ended has no fault; with no time to wait, one that does not answer yet has none.
        """
        if not self._pending:
            return
        done, late = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=timeout_s)
        problems = [f"node {self._pending[task]}: did not answer in {timeout_s:.0f} s" for task in (late if timeout_s else ())]
        for task in done:
            name = self._pending.pop(task)
            try:
                problems += [f"node {name}: {fault}" for fault in ray.get(task)]
            except GONE:
                continue
            except ray.exceptions.RayError as error:
                problems.append(f"node {name}: the check did not run ({str(error).strip().splitlines()[-1]})")
        if problems:
            raise UserError("the cluster is not ready:\n" + "\n".join(f"  {problem}" for problem in problems))


class Nodes:
    """A cluster as the search sees it, looked at again every few seconds at most."""

    def __init__(self, checks: Checks) -> None:
        """Check the nodes that are there; raises UserError naming all faults."""
        self._checks, self._polled, self._wanted = checks, 0.0, -1
        self.room = Room()
        self.look(wait_s=120)

    def look(self, wait_s: float = 0.0) -> Room:
        """Return what the nodes have now; raises UserError when one that came is not fit for trials."""
        if not wait_s and time.monotonic() - self._polled < POLL_S:
            return self.room
        nodes = ray.nodes()
        self._checks.begin(nodes)
        self._checks.hear(wait_s)
        self.room, self._polled = room_of(nodes), time.monotonic()
        return self.room

    def ask_for(self, bundle: Mapping[str, float], count: int) -> None:
        """Ask the autoscaler for room for so many bundles (0: for nothing any more); without one, nobody hears it."""
        count = min(max(0, count), MOST_BUNDLES)
        if count != self._wanted:
            self._wanted = count
            request_resources(bundles=[{key: value for key, value in bundle.items() if value}] * count)

    def wait_for(self, fits: Callable[[Room], bool], bundle: Mapping[str, float], count: int) -> Room:
        """Return the nodes' room once it fits, asking the autoscaler for it; raises UserError where it never will."""
        begun = told = time.monotonic()
        need = " and ".join(f"{value:g} {key}s" for key, value in bundle.items() if value)
        while not fits(room := self.look()):
            waited = time.monotonic() - begun
            if waited > PATIENCE_S or (waited > SURE_S and not can_grow()):
                why = f"none came in {waited / 60:.0f} min (see `ray status`)" if can_grow() else "no autoscaler runs there"
                raise UserError(
                    f"search.cpus_per_trial, gpus_per_trial: a trial needs {need}, the cluster has {room.cpus:g} CPUs and "
                    f"{room.gpus:g} GPUs; {why}; ask for less or add nodes"
                )
            self.ask_for(bundle, count)
            if told == begun or time.monotonic() - told > SAY_S:
                told = time.monotonic()
                have = f"{room.cpus:g} CPUs and {room.gpus:g} GPUs"
                print(
                    f"waiting for nodes: a trial needs {need}, there are {have} ({waited:.0f} s)", file=sys.stderr, flush=True
                )
            time.sleep(POLL_S / 4)
        return room


def can_grow() -> bool:
    """Return whether an autoscaler runs that can add nodes: one that only mirrors those that are there cannot."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    if is_autoscaler_v2():
        return True
    status = _internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS.encode())
    report = json.loads(status).get("autoscaler_report") if status else None
    if not report:
        return False
    kinds = {*report["active_nodes"], *report["pending_launches"], *(kind for _, kind, *_ in report["pending_nodes"])}
    return not kinds <= {format_readonly_node_type(node["NodeID"]) for node in ray.nodes()}
