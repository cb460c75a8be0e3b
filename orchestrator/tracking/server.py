"""A local MLflow server in a process group of its own: lean (one worker, no jobs, no telemetry), and stopped whole."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.errors import RunFailed, UserError

START_S = 180.0
STOP_S = 10.0
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass
class Server:
    """A running server: its address, its process, and what it has printed."""

    url: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def stop(self) -> None:
        """End the whole group: asked first, then forced."""
        _signal_group(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """Return the last lines the server printed."""
        self.output.seek(0)
        return "\n".join(self.output.read().decode(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def mlflow_server(uri: str, artifacts: Path, *, host: str, port: int) -> Iterator[Server]:
    """Run `mlflow server` until the block ends; yields once it answers. Raises UserError (port), RunFailed (it died)."""
    port = check_port(host, port)
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--artifacts-destination", str(artifacts),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, **ENVIRONMENT}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        server = Server(f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", process, output)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            server.stop()


def check_port(host: str, port: int) -> int:
    """Return a port that is free (0 picks one); raises UserError when it is taken."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UserError(f"port {port} on {host}: {error.strerror}; choose another: --port {port + 1}") from error


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RunFailed(f"mlflow server ended with code {server.process.returncode}:\n{server.tail()}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise RunFailed(f"mlflow server did not answer within {START_S:.0f} s:\n{server.tail()}")


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
