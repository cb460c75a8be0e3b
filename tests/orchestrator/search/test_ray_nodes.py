"""What a search asks of an autoscaler, what it makes of the answers, and how long it waits."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.search import ray_nodes
from orchestrator.search.ray_nodes import Nodes, Reach, Room, room_of


class Autoscaler:
    """Stands in for Ray's newer one: brings nodes of one bundle each, up to a limit, or nothing where more are asked for."""

    def __init__(self, limit: int) -> None:
        self.limit, self.nodes = limit, 0
        self.asked: list[dict[str, float]] = []

    def request(self, bundles: list[dict[str, float]]) -> None:
        self.asked = bundles
        if len(bundles) <= self.limit:
            self.nodes = max(self.nodes, len(bundles))

    def possible(self, state: int) -> bool | None:  # noqa: ARG002
        return len(self.asked) <= self.limit

    def entries(self) -> list[dict[str, Any]]:
        return [{"NodeID": str(n), "Alive": True, "Resources": {"CPU": 1.0}} for n in range(self.nodes)]


class NoChecks:
    """Finds every node fit, but for those it has not looked from yet."""

    late: set[str] = set()

    def begin(self, nodes: Any) -> None:
        """Do nothing."""

    def hear(self, timeout_s: float) -> None:
        """Do nothing."""

    def passed(self, node: Any) -> bool:
        return node["NodeID"] not in self.late


def brought_by(autoscaler: Autoscaler, monkeypatch: pytest.MonkeyPatch, *, cpus: float = 1.0) -> Nodes:
    monkeypatch.setattr(ray_nodes, "request_resources", autoscaler.request)
    monkeypatch.setattr(ray_nodes, "speaks", lambda: True)
    monkeypatch.setattr(ray_nodes, "newest_state", lambda: 0)
    monkeypatch.setattr(ray_nodes, "finds_possible", autoscaler.possible)
    monkeypatch.setattr("ray.nodes", autoscaler.entries)
    monkeypatch.setattr(ray_nodes, "POLL_S", 0.0)
    return Nodes(NoChecks(), {"CPU": cpus, "GPU": 0.0})  # type: ignore[arg-type]


def node(cpus: float, gpus: float = 0.0, *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": f"{cpus}/{gpus}", "Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


def test_only_living_nodes_that_each_could_hold_a_trial_count() -> None:
    nodes = [node(0), node(2), node(4, 1), node(8, 2), node(16, alive=False)]
    assert room_of(nodes, {"CPU": 4.0}) == Room(12.0, 3.0, 2)
    assert room_of(nodes, {"CPU": 1.0, "GPU": 1.5}) == Room(8.0, 2.0, 1)
    assert room_of(nodes, {"CPU": 12.0}) == Room(), "14 CPUs on three nodes hold no trial of 12"


def test_halving_finds_the_largest_request_that_is_possible() -> None:
    for limit in range(40):
        for wanted in range(1, 60):
            reach, asked = Reach(), -1
            for _ in range(9):
                asked = reach.within(wanted)
                reach.hear(asked, possible=asked <= limit)
            assert asked == min(wanted, limit), (limit, wanted)


def test_all_the_nodes_that_may_come_do_come_although_more_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    autoscaler = Autoscaler(limit=8)
    with brought_by(autoscaler, monkeypatch) as nodes:
        assert nodes.wait_for(100).nodes >= 1
        for _ in range(10):
            nodes.ask_for({"CPU": 1.0}, 100)
        assert (len(autoscaler.asked), nodes.look()) == (8, Room(8.0, 0.0, 8))
        nodes.ask_for({"CPU": 1.0}, 3)  # the last trials: the other nodes may go
        assert autoscaler.asked == [{"CPU": 1.0}] * 3
    assert autoscaler.asked == [], "withdrawn"


def test_another_size_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    autoscaler = Autoscaler(limit=8)
    with brought_by(autoscaler, monkeypatch) as nodes:
        nodes.ask_for({"CPU": 1.0}, 4)
        nodes.ask_for({"CPU": 1.0, "GPU": 0.25}, 4)
        assert autoscaler.asked == [{"CPU": 1.0, "GPU": 0.25}] * 4


def test_a_node_counts_once_it_has_been_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    autoscaler = Autoscaler(limit=8)
    autoscaler.nodes = 3
    monkeypatch.setattr(NoChecks, "late", {"0", "2"})
    nodes = brought_by(autoscaler, monkeypatch)
    assert nodes.look().nodes == 1
    monkeypatch.setattr(NoChecks, "late", set())
    assert nodes.look().nodes == 3


def test_what_no_kind_of_node_could_hold_is_refused_at_once_and_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    autoscaler = Autoscaler(limit=0)
    nodes = brought_by(autoscaler, monkeypatch, cpus=64.0)
    with pytest.raises(UserError, match="needs 64 CPUs.*no kind of node that would do"), nodes:
        nodes.wait_for(12)
    assert autoscaler.asked == []


def test_without_an_autoscaler_and_without_any_node_for_long_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    autoscaler = Autoscaler(limit=8)
    nodes = brought_by(autoscaler, monkeypatch)
    monkeypatch.setattr(ray_nodes, "can_grow", lambda: False)
    monkeypatch.setattr(ray_nodes, "SURE_S", -1.0)
    with pytest.raises(UserError, match="no autoscaler runs there"):
        nodes.wait_for(4)
    autoscaler.nodes = 1
    assert nodes.look().nodes == 1
    autoscaler.nodes = 0
    monkeypatch.setattr(ray_nodes, "PATIENCE_S", -1.0)
    with pytest.raises(UserError, match="a trial needs 1 CPUs.*none was there for"):
        nodes.look()
