"""How a machine or a cluster is divided among trials."""

from __future__ import annotations

import pytest

from orchestrator.config import SearchSection
from orchestrator.search.ray_cluster import places, share_out


@pytest.mark.parametrize(("asked", "gpus", "at_once"), [(8, 1.0, 1), (2, 4.0, 2), (0, 2.0, 2)])
def test_no_more_trials_at_once_than_find_room(asked: int, gpus: float, at_once: int) -> None:
    search = SearchSection(concurrency=asked, gpus_per_trial=1.0)
    share = share_out(search, cpus=16.0, gpus=gpus)
    assert places(share, cpus=16.0, gpus=gpus, most=share.trials) == at_once
