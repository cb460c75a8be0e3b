"""Ray Tune's side of a search, without Ray: nodes are looked at all the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.search.interrupt import Ending
from orchestrator.search.ray_tune import _Course, _Ender


class Watched:
    """Counts how often the nodes are looked at, the third time in vain."""

    looks = 0

    @property
    def at_once(self) -> int:
        self.looks += 1
        if self.looks == 3:
            raise UserError("the cluster is not ready: a node is unfit")
        return 1


def test_nodes_are_looked_at_while_no_trial_starts_and_an_unfit_one_ends_the_search_in_order() -> None:
    workers: Any = Watched()
    course = _Course(SimpleNamespace(live=1), Ending(), SimpleNamespace(lost=""), workers)  # type: ignore[arg-type]
    ender = _Ender(course)
    assert [ender.stop_all() for _ in range(4)] == [False, False, True, True]
    assert workers.looks == 3
    with pytest.raises(UserError, match="a node is unfit"):
        course.conclude()
