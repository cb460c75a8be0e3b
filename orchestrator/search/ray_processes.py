"""Trials in processes of their own, on this node or on a cluster whose nodes come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from orchestrator.config import SearchSection
from orchestrator.search.ray_cluster import Share, places, share_out
from orchestrator.search.ray_nodes import Nodes
from orchestrator.search.ray_worker import train_on_ray


class Processes:
    """A process a trial, reused by the next one."""

    def __init__(self, share: Share) -> None:
        """Take how much each is given, and how many there are."""
        self._share = share
        self.trainable = tune.with_resources(train_on_ray, {"cpu": share.cpus, "gpu": share.gpus})

    @property
    def at_once(self) -> int:
        """Return how many run at once."""
        return self._share.trials

    def place(self, trial_id: str) -> dict[str, Any]:  # noqa: ARG002
        """Return nothing."""
        return {}

    def ended(self, trial_id: str, *, lost: bool = False) -> None:
        """Do nothing."""

    def close(self) -> list[dict[str, Any]]:
        """Return nothing."""
        return []


class ProcessesOn(Processes):
    """The same on a cluster whose nodes come and go: as many at once as find room, and room asked for all that are left."""

    def __init__(self, search: SearchSection, nodes: Nodes, left: Callable[[], int]) -> None:
        """Take what is asked for, the nodes, and how many trials are left; waits for the first node."""
        room = nodes.wait_for(min(left(), search.concurrency or left()))
        super().__init__(share_out(search, cpus=room.cpus, gpus=room.gpus, growing=True))
        self._most, self._nodes, self._left = search.concurrency, nodes, left

    @property
    def at_once(self) -> int:
        """Return how many find room now; it is a moment's work unless the last look is old."""
        room, left = self._nodes.look(), self._left()
        self._nodes.ask_for({"CPU": self._share.cpus, "GPU": self._share.gpus}, min(left, self._most or left))
        return places(self._share, cpus=room.cpus, gpus=room.gpus, most=self._most)
