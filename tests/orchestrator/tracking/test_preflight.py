"""The look before the start: what answers passes, what does not is named with the next step, quickly."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.server import check_port


@contextmanager
def answering(status: int, seen: list[str] | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_answers_passes() -> None:
    with answering(200) as uri:
        check_tracking(uri)


def test_a_server_that_refuses_or_fails_is_named_with_the_next_step() -> None:
    with answering(403) as uri, pytest.raises(UserError, match=r"refuses this client \(HTTP 403\).*--allowed-hosts"):
        check_tracking(uri)
    with answering(503) as uri, pytest.raises(UserError, match=f"{uri} answers HTTP 503.*tracking.uri=none"):
        check_tracking(uri)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with answering(200, seen) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
        check_tracking(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
        check_tracking(uri)
    assert seen == ["Bearer t0ken", "Basic bWU6cHc="]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_nobody_at_the_address(scheme: str) -> None:
    uri = f"{scheme}://127.0.0.1:{check_port('127.0.0.1', 0)}"
    with pytest.raises(UserError, match=rf"{uri}.*tracking\.uri"):
        check_tracking(uri)


def test_an_open_port_passes_for_a_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_tracking(f"postgresql://me:pw@127.0.0.1:{server.getsockname()[1]}/db")


def test_a_database_file_must_be_one(tmp_path: Path, template_database: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db")
    shutil.copy(template_database, tmp_path / "old.db")
    check_tracking(f"sqlite:///{tmp_path}/old.db")
    (tmp_path / "text.db").write_text("notes")
    with pytest.raises(UserError, match="not an SQLite database"):
        check_tracking(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(UserError, match="cannot be used"):
        check_tracking(f"sqlite:///{tmp_path}/text.db/below/mlflow.db")


def test_none_needs_nobody() -> None:
    check_tracking("none")
