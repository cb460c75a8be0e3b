"""Freed blocks stay with the process, so that the second large tensor costs no page faults, until they are given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from trainables.allocator import keep_freed_memory

kept = keep_freed_memory()
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 23)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


GIVE_BACK = """
import resource
import numpy as np
from trainables.allocator import give_back_freed_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

kept = keep_freed_memory()
before = resident()
blocks = [np.ones(1 << 17) for _ in range(256)]  # 256 MiB in blocks of 1 MiB
del blocks
freed = resident()
give_back_freed_memory()
print(int(kept), freed - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_blocks_can_be_given_back() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, text=True, env=environment, check=True)
    kept, freed, given_back = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert freed > 200
    assert given_back < 50


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_large_blocks_are_reused() -> None:
    """Five arrays of 64 MiB would fault in 81,920 pages if they were new ones each time (fewer with huge pages)."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, env=environment, check=True)
    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 50
