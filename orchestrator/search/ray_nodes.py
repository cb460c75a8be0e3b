"""The nodes of a joined cluster, which come and go: counted, checked before they count, asked for, and let go again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants
from ray.autoscaler._private.util import format_readonly_node_type
from ray.autoscaler.sdk import request_resources
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

from orchestrator.errors import UserError
from orchestrator.search.preflight import check_node, versions

POLL_S, SAY_S = 2.0, 30.0
"""How often nodes are looked at, and how often the wait for them is told."""
SURE_S, PATIENCE_S = 15.0, 1800.0
"""How long an autoscaler may take to show itself, and how long a search may be without any node for its trials."""
MOST_BUNDLES = 1000
GONE = (
    ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError, ray.exceptions.LocalRayletDiedError,
    ray.exceptions.TaskUnschedulableError,
)  # fmt: skip
"""A node that went away while it was looked at."""
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Room:
    """What the nodes that can hold a trial have: CPUs, GPUs, and how many such nodes there are."""

    cpus: float = 0.0
    gpus: float = 0.0
    nodes: int = 0


def room_of(nodes: Sequence[Node], need: Mapping[str, float]) -> Room:
    """Return what those of Ray's node entries have together that are alive and each have what one trial needs."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    large = [found for found in alive if all(found.get(name, 0.0) >= amount for name, amount in need.items())]
    return Room(sum(found.get("CPU", 0.0) for found in large), sum(found.get("GPU", 0.0) for found in large), len(large))


class Checks:
    """The look from every node at the data, the run folder and the tracking server, each node once."""

    def __init__(self, data: Mapping[str, Any], root: str, tracking: str) -> None:
        self._asked = (dict(data), root, tracking, versions())
        self._known: set[str] = set()
        self._pending: dict[Any, Node] = {}

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
            self._pending[task] = node

    def passed(self, node: Node) -> bool:
        """Return whether a node has been looked from and has no fault."""
        return node["NodeID"] in self._known and all(node["NodeID"] != other["NodeID"] for other in self._pending.values())

    def hear(self, timeout_s: float) -> None:
        """Wait so long at most for what was started; raises UserError naming all faults that were found.

        A node that is lost before its look ended has no fault; with no time to wait, one that does not answer yet has none.
        """
        if not self._pending:
            return
        done, late = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=timeout_s)
        late = late if timeout_s else []
        problems = [f"node {_name(self._pending[task])}: did not answer in {timeout_s:.0f} s" for task in late]
        for task in done:
            name = _name(self._pending.pop(task))
            try:
                problems += [f"node {name}: {fault}" for fault in ray.get(task)]
            except GONE:
                continue
            except ray.exceptions.RayError as error:
                problems.append(f"node {name}: the check did not run ({str(error).strip().splitlines()[-1]})")
        if problems:
            raise UserError("the cluster is not ready:\n" + "\n".join(f"  {problem}" for problem in problems))


def _name(node: Node) -> str:
    return str(node["NodeManagerHostname"] or node["NodeManagerAddress"])


@dataclass
class Reach:
    """How many bundles an autoscaler can bring room for, found by halving while nodes for what is possible come already.

    Ray's newer autoscaler, which `ray up` starts, does nothing at all for a request that is not possible as a whole.
    """

    most: int = 0
    """The largest number known to be possible."""
    never: int = MOST_BUNDLES + 1
    """The smallest number known not to be."""

    def within(self, count: int) -> int:
        """Return how many to ask for where `count` are wanted.

        >>> Reach(most=6, never=12).within(20), Reach(most=8, never=9).within(20), Reach().within(20)
        (9, 8, 20)
        """
        return count if count < self.never else (self.most + self.never) // 2

    def hear(self, count: int, *, possible: bool) -> None:
        """Note what the autoscaler says of a number."""
        if possible:
            self.most = max(self.most, count)
        else:
            self.never = min(self.never, count)


class Nodes:
    """A cluster as the search sees it, looked at again every few seconds at most; at the end its requests are withdrawn."""

    def __init__(self, checks: Checks, need: Mapping[str, float]) -> None:
        """Check the nodes that are there; `need` is what a trial needs at least. Raises UserError naming all faults."""
        self._checks, self._polled, self._seen = checks, 0.0, time.monotonic()
        self._need = {name: amount for name, amount in need.items() if amount}
        self._bundle: dict[str, float] = {}
        self._reach, self._asked, self._unheard_since = Reach(), 0, -1
        self.room = Room()
        self.look(wait_s=120)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        """Ask for nothing any more, so that idle nodes may go."""
        with suppress(Exception):  # Ray may be lost
            request_resources(bundles=[])

    def look(self, wait_s: float = 0.0) -> Room:
        """Return what the nodes have that are checked; raises UserError when one is not fit, or none is there for too long."""
        if not wait_s and time.monotonic() - self._polled < POLL_S:
            return self.room
        nodes = ray.nodes()
        self._checks.begin(nodes)
        self._checks.hear(wait_s)
        self.room, self._polled = room_of([n for n in nodes if self._checks.passed(n)], self._need), time.monotonic()
        self._seen = self._polled if self.room.nodes else self._seen
        if self._polled - self._seen > PATIENCE_S:
            raise self._refusal(f"none was there for {PATIENCE_S / 60:.0f} min (see `ray status`)")
        return self.room

    def ask_for(self, bundle: Mapping[str, float], count: int) -> None:
        """Ask the autoscaler for room for so many bundles, or as many as it can bring; without one, nobody hears it."""
        wanted = {key: value for key, value in bundle.items() if value}
        if wanted != self._bundle:
            self._bundle, self._reach, self._asked, self._unheard_since = wanted, Reach(), 0, -1
        self._hear()
        count = self._reach.within(min(max(0, count), MOST_BUNDLES))
        if count != self._asked:
            request_resources(bundles=[wanted] * count)
            self._asked = count
            self._unheard_since = newest_state() if count > self._reach.most and speaks() else -1

    def _hear(self) -> None:
        """Note whether what was asked for is possible, once the autoscaler has seen it."""
        if self._unheard_since >= 0 and (possible := finds_possible(self._unheard_since)) is not None:
            self._reach.hear(self._asked, possible=possible)
            self._unheard_since = -1

    def wait_for(self, count: int) -> Room:
        """Return the nodes' room once there is some, asking for `count` trials' worth; raises UserError where it never will."""
        begun = told = time.monotonic()
        while not (room := self.look()).nodes:
            waited = time.monotonic() - begun
            if self._reach.never == 1:
                raise self._refusal("the autoscaler has no kind of node that would do")
            if waited > SURE_S and not can_grow():
                raise self._refusal("no autoscaler runs there")
            self.ask_for(self._need, count)
            if told == begun or time.monotonic() - told > SAY_S:
                told = time.monotonic()
                print(f"waiting for a node with {self._wish()} ({waited:.0f} s)", file=sys.stderr, flush=True)
            time.sleep(POLL_S / 4)
        return room

    def _wish(self) -> str:
        return " and ".join(f"{value:g} {key}s" for key, value in self._need.items())

    def _refusal(self, why: str) -> UserError:
        return UserError(
            f"search.cpus_per_trial, gpus_per_trial: a trial needs {self._wish()}, and no node of the cluster has as much; "
            f"{why}; ask for less or add nodes"
        )


def speaks() -> bool:
    """Return whether the autoscaler is the newer one, which says what it finds impossible."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2())


def _status() -> Any:
    """Return what Ray's controller knows of the cluster and of the autoscaler's last round."""
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    return GetClusterStatusReply.FromString(internal_kv_get_gcs_client().get_cluster_status(timeout_s=10))


def newest_state() -> int:
    """Return the number of the cluster's newest state."""
    return int(_status().cluster_resource_state.cluster_resource_state_version)


def finds_possible(state: int) -> bool | None:
    """Return whether the autoscaler can bring what is asked for; None while it has not seen a state after this one."""
    told = _status().autoscaling_state
    if told.last_seen_cluster_resource_state_version <= state:
        return None
    return not told.infeasible_cluster_resource_constraints


def can_grow() -> bool:
    """Return whether an autoscaler runs that can add nodes: one that only mirrors those that are there cannot."""
    if speaks():
        return True
    status = _internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS.encode())
    report = json.loads(status).get("autoscaler_report") if status else None
    if not report:
        return False
    kinds = {*report["active_nodes"], *report["pending_launches"], *(kind for _, kind, *_ in report["pending_nodes"])}
    return not kinds <= {format_readonly_node_type(node["NodeID"]) for node in ray.nodes()}
