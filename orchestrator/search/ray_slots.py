"""Slots on Ray: one engine actor a device, made once a search, and a light proxy of it for each of Tune's trials.

A proxy imports no torch. Its `step` is one call to its engine, which Tune makes only where the trial is to go on; that a trial
is over for Tune (stopped, done, its proxy lost) the driver tells the engine itself, so that no other slot waits for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.engine import OVER, SlotEngine
from orchestrator.search.ray_nodes import Nodes

PROXY_CPUS = 0.01
"""What Ray is told that a proxy needs: nothing worth counting, but not nothing, which Tune refuses."""


@dataclass(frozen=True)
class EngineShare:
    """How many engines there are, how many trials each has at once, and what each is given."""

    engines: int
    slots: int
    trials: int
    """Trials at once on all of them."""
    cpus: float
    gpus: float


def share_slots(search: SearchSection, *, cpus: float, gpus: float, nodes: int = 1) -> EngineShare:
    """Divide a cluster: an engine a GPU, or one for every `cpus_per_trial` cores; raises UserError where none fits.

    `search.slots` trials at once a device, a device being a GPU or, where there is none, a node's CPUs. One engine on all
    cores of a node is slower than one a core (the interpreter's lock, and small nets gain little from threads).
    """
    per_gpu = 0.0 if not gpus or search.gpus_per_trial == 0 else max(search.gpus_per_trial, 0.0) or 1.0
    fit = int(cpus / search.cpus_per_trial + 1e-9)
    fit = min(fit, int(gpus / per_gpu + 1e-9)) if per_gpu else fit
    if not fit:
        raise UserError(
            f"search.cpus_per_trial, gpus_per_trial: an engine needs {search.cpus_per_trial:g} CPUs and {per_gpu:g} GPUs, "
            f"Ray has {cpus:g} and {gpus:g}; ask for less or add nodes"
        )
    room = math.ceil(search.slots * (gpus if per_gpu else nodes))
    at_once = min(room, search.concurrency or room)
    engines = min(fit, at_once)
    return EngineShare(engines, math.ceil(at_once / engines), at_once, search.cpus_per_trial, per_gpu)


class SlotProxy(tune.Trainable):  # type: ignore[misc]  # Ray is not typed
    """A trial as Tune sees it; its training is a thread of an engine."""

    def setup(self, config: dict[str, Any]) -> None:
        """Note the trial and the engine that the driver chose; nothing begins yet.

        Tune may make two proxies of one trial and throw one away before its first step: only the other one may begin it.
        """
        self._job: dict[str, Any] = json.loads(config["job"])
        self._engine: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Stand for another trial from now on."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Let the trial go on (or begin) and return its next epoch; raises RayError when its engine is lost."""
        spec = self._job["spec"]
        if self._engine is None:
            self._engine = ray.get_actor(self._job["engine"])
            ray.get(self._engine.start.remote(spec))
        told = ray.get(self._engine.next.remote(spec["trial_id"]))
        return {"done": True} if told == OVER else {"outcome": told}


class EngineActor(SlotEngine):
    """The engine as an actor."""

    def live(self) -> None:
        """Return only when the process ends, which the driver sees as an error."""
        threading.Event().wait()


@dataclass
class _Engine:
    name: str
    actor: Any
    life: Any
    trials: set[str]

    @property
    def dead(self) -> bool:
        return bool(ray.wait([self.life], timeout=0)[0])


class Engines:
    """The driver's view of the engines: which trial is in which; they are made when there are trials for them."""

    def __init__(self, share: EngineShare, job: Mapping[str, Any]) -> None:
        self._share, self._job = share, dict(job)
        self._search = uuid.uuid4().hex[:8]
        self._engines: list[_Engine] = []
        self._made = 0
        self.trainable = tune.with_resources(SlotProxy, {"cpu": PROXY_CPUS})

    @property
    def at_once(self) -> int:
        """Return how many trials there are at once."""
        return self._share.trials

    def place(self, trial_id: str) -> dict[str, Any]:
        """Return what a trial's proxy must know: the engine with the fewest trials, a fresh one where one is missing."""
        for engine in [engine for engine in self._engines if engine.dead]:
            self._engines.remove(engine)
        if len(self._engines) < self._share.engines and all(engine.trials for engine in self._engines):
            self._engines.append(self._make())
        engine = min(self._engines, key=lambda engine: len(engine.trials))
        engine.trials.add(trial_id)
        return {"engine": engine.name}

    def ended(self, trial_id: str, *, lost: bool = False) -> None:
        """Tell a trial's engine that Tune is done with it; of one that was lost, wait until nothing of it is left."""
        for engine in [engine for engine in self._engines if trial_id in engine.trials]:
            engine.trials.remove(trial_id)
            left = engine.actor.stop.remote(trial_id)
            if lost:
                try:
                    ray.get(left)
                except RayError:
                    self._engines.remove(engine)

    def close(self) -> list[dict[str, Any]]:
        """End the engines and return what each has to say of its slots."""
        found = []
        for engine in self._engines:
            with contextlib.suppress(RayError):
                found.append(ray.get(engine.actor.summary.remote(), timeout=10))
                ray.kill(engine.actor)
        self._engines.clear()
        return found

    def _make(self) -> _Engine:
        share, self._made = self._share, self._made + 1
        name = f"slots-{self._search}-{self._made}"
        actor = (
            ray.remote(EngineActor)
            .options(
                name=name,
                num_cpus=max(0.0, round(share.cpus - PROXY_CPUS * share.slots, 4)),
                num_gpus=share.gpus,
                max_concurrency=3 * share.slots + 4,
                max_restarts=0,
            )
            .remote(self._job, slots=share.slots, threads=max(1, int(share.cpus)))
        )
        return _Engine(name, actor, actor.live.remote(), set())


class EnginesOn(Engines):
    """The same on a cluster whose nodes come and go: engines where there is room, and room asked for all trials left."""

    def __init__(self, search: SearchSection, job: Mapping[str, Any], nodes: Nodes, left: Callable[[], int]) -> None:
        self._section, self._nodes, self._left = search, nodes, left
        nodes.wait_for(math.ceil(min(left(), search.concurrency or left()) / search.slots))
        super().__init__(self._now(), job)

    @property
    def at_once(self) -> int:
        """Return how many trials the present nodes' engines have; where none is there, as many as before wait."""
        if self._nodes.look().nodes:
            self._share = self._now()
        engine = {"CPU": self._share.cpus, "GPU": self._share.gpus}
        self._nodes.ask_for(engine, math.ceil(min(self._left(), self._section.concurrency or self._left()) / self._share.slots))
        return self._share.trials

    def _now(self) -> EngineShare:
        room = self._nodes.look()
        return share_slots(self._section, cpus=room.cpus, gpus=room.gpus, nodes=room.nodes)


def told_of(summaries: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return what engines say of their slots as a sentence and as facts for the ledger."""
    pools = [pool for summary in summaries for pool in summary["pools"]]
    room = sum(summary["slots"] * summary["seconds"] for summary in summaries)
    held = sum(summary["held_seconds"] for summary in summaries)
    busy, seconds = sum(pool["seconds"] for pool in pools), sum(summary["seconds"] for summary in summaries)
    ticks, epochs = sum(pool["ticks"] for pool in pools), sum(pool["slot_epochs"] for pool in pools)
    facts = {
        "engines": len(summaries),
        "slots": sum(summary["slots"] for summary in summaries),
        "occupancy": round(held / room, 4) if room else 0.0,
        "device_busy": round(busy / seconds, 4) if seconds else 0.0,
        "ticks": ticks,
        "slot_epochs": epochs,
        "pools": pools,
    }
    most = sorted(pools, key=lambda pool: pool["slot_epochs"])  # of a model's pools the busiest; all are in the facts
    reasons = {pool["model"]: f"{pool['model']} {pool['reason']}" for pool in most}
    sentence = (
        f"slots: {facts['occupancy']:.0%} held by trials, device {facts['device_busy']:.0%} busy, {epochs} epochs in {ticks} "
        f"ticks on {len(summaries)} engines; " + "; ".join(sorted(reasons.values()))
    )
    return sentence, facts
