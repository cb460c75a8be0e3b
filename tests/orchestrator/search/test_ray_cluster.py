"""How a machine or a cluster is divided among trials, and an address where nothing answers."""

from __future__ import annotations

import socket
import time

import pytest

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.ray_cluster import places, share_out
from orchestrator.search.ray_session import ray_session


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    search, said = (
        SearchSection(address=f"127.0.0.1:{port}"),
        rf"search.address: nothing answers at 127.0.0.1:{port} .*ray start",
    )
    with pytest.raises(UserError, match=said), ray_session(search):
        pass
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("asked", "gpus", "at_once"), [(8, 1.0, 1), (2, 4.0, 2), (0, 2.0, 2)])
def test_no_more_trials_at_once_than_find_room(asked: int, gpus: float, at_once: int) -> None:
    search = SearchSection(concurrency=asked, gpus_per_trial=1.0)
    share = share_out(search, cpus=16.0, gpus=gpus)
    assert places(share, cpus=16.0, gpus=gpus, most=share.trials) == at_once
