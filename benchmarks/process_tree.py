"""What a command and all processes below it cost: wall seconds, CPU seconds, and the most memory they held together.

Run: python benchmarks/process_tree.py COMMAND [ARGUMENT ...]      (prints a table of its processes; its output goes to a file)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
EVERY_S = 0.25


@dataclass
class Seen:
    """One process: its command's last words, when it was first and last seen (seconds), and what it had used by then."""

    name: str
    begun_s: float
    ended_s: float = 0.0
    cpu_s: float = 0.0


def measure(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, timeout_s: float) -> dict[str, Any]:
    """Run a command (output to `log`) and return wall_s, cpu_s and peak_mb of its tree, sampled from /proc (Linux).

    What a process uses in the last quarter second of its life is not seen. `peak_mb` counts shared pages once (PSS).
    `processes` lists those that used a tenth of a second or more.
    """
    seen: dict[tuple[int, str], Seen] = {}
    peak, sampled, started = 0.0, 0.0, time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=env, start_new_session=True)
        mine = {process.pid}
        while process.poll() is None:
            below = _below(mine)
            mine |= set(below)
            for pid, (born, cpu) in below.items():
                now = round(time.monotonic() - started, 1)
                known = seen.setdefault((pid, born), Seen("", now))
                known.name, known.ended_s, known.cpu_s = _name(pid) or known.name, now, max(cpu, known.cpu_s)
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
    processes = [vars(one) for one in seen.values() if one.cpu_s >= 0.1]
    cpu = sum(one.cpu_s for one in seen.values())
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mb": round(peak), "processes": processes}


def _name(pid: int) -> str:
    """Return the file names and options of a process's command that tell what it is."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        told = [Path(word).name for word in words if word and not word.startswith("-")]
        return " ".join(told[:2])[:60].strip()
    return ""


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


def main() -> None:
    """Run a command and print its processes as a table."""
    if len(sys.argv) < 2:
        sys.exit((__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(sys.argv[1:], log=Path(folder) / "log", timeout_s=3600)
    words = " ".join([Path(sys.argv[1]).name, *sys.argv[2:]])
    print(f"`{words}`: {found['wall_s']} s, {found['cpu_s']} CPU s, {found['peak_mb']} MB at most\n")
    print("| process | from s | to s | CPU s |\n|---|---|---|---|")
    for one in found["processes"]:
        print(f"| {one['name']} | {one['begun_s']} | {one['ended_s']} | {one['cpu_s']:.1f} |")


if __name__ == "__main__":
    main()
