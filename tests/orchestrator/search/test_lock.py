"""One driver a run folder: a second one is told who holds it, and a killed one holds nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.search.lock import driver_lock

HOLD = """
import sys
from pathlib import Path
from orchestrator.search.lock import driver_lock
with driver_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_told_who_holds_the_folder_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / "driver.lock"
    process = holder(path)
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on {socket.gethostname()}"), driver_lock(path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with driver_lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""


def test_stages_of_one_driver_may_ask_again(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with driver_lock(path):
        with driver_lock(path):
            pass
        assert path.read_text(), "still held by the outer stage"
    process = holder(path)
    process.communicate("")
    assert process.returncode == 0


def test_a_stale_note_without_a_holder_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    path.write_text("{half a no")
    with driver_lock(path):
        assert json.loads(path.read_text())["host"] == socket.gethostname()
