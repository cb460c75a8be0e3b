"""What a command and all processes below it cost: wall seconds, CPU seconds, and the most memory they held together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
EVERY_S = 0.25


def measure(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, timeout_s: float) -> dict[str, float]:
    """Run a command (output to `log`) and return wall_s, cpu_s and peak_mb of its tree, sampled from /proc (Linux).

    What a process uses in the last quarter second of its life is not seen. `peak_mb` counts shared pages once (PSS).
    """
    seen: dict[tuple[int, str], float] = {}
    peak, sampled, started = 0.0, 0.0, time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=env, start_new_session=True)
        mine = {process.pid}
        while process.poll() is None:
            below = _below(mine)
            mine |= set(below)
            for pid, (born, cpu) in below.items():
                seen[(pid, born)] = max(cpu, seen.get((pid, born), 0.0))
            if time.monotonic() - sampled > 2:
                peak, sampled = max(peak, sum(_pss_mb(pid) for pid in below)), time.monotonic()
            if time.monotonic() - started > timeout_s:
                for pid in sorted(below, reverse=True):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                raise TimeoutError(f"{' '.join(command)}: not done after {timeout_s:.0f} s, see {log}")
            time.sleep(EVERY_S)
    wall = time.monotonic() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}, see {log}\n{log.read_text()[-3000:]}")
    return {"wall_s": round(wall, 1), "cpu_s": round(sum(seen.values()), 1), "peak_mb": round(peak)}


def _below(roots: set[int]) -> dict[int, tuple[str, float]]:
    """Return pid -> (birth, CPU seconds) of the roots that live and everything below them."""
    table: dict[int, tuple[int, str, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = stat.read_text().rsplit(")", 1)[1].split()
            table[int(stat.parent.name)] = (int(words[1]), words[19], (int(words[11]) + int(words[12])) / TICKS)
    found, grown = {pid for pid in roots if pid in table}, True
    while grown:
        more = {pid for pid, (parent, _, _) in table.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return {pid: table[pid][1:] for pid in found}


def _pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return 0.0
