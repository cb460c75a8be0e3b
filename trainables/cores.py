"""How many CPUs this process may use: no more than it may run on, nor than its container is given time for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

GROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Return the fewest of the CPUs in the process's affinity mask and the quotas of its control groups, rounded up.

    The standard library knows the mask alone: in a container with `--cpus 2` on a machine of 64 it says 64.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cpus, *quotas(GROUPS, MEMBERSHIP)])))


def quotas(groups: Path, membership: Path) -> Iterator[float]:
    """Yield the CPUs that each control group around the process, of version 1 or 2, leaves it; none where none is limited.

    A container's own group is the root that it sees, whatever name the host has for it.
    """
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = groups / controllers if (groups / controllers).is_dir() else groups / "cpu"
            own = PurePosixPath(name.lstrip("/"))
            for group in (own, *own.parents):
                with suppress(OSError, ValueError):  # no such group, or "max": no limit
                    yield _quota(root / group, version=1 if controllers else 2)


def _quota(group: Path, *, version: int) -> float:
    """Return a group's CPUs, infinity for no limit; raises OSError where it says nothing, ValueError for "max"."""
    if version == 2:
        time, period = (group / "cpu.max").read_text().split()
    else:
        time, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(time) / int(period) if int(time) > 0 else math.inf
