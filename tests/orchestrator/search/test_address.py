"""An address is looked at before anything is begun: what cannot be Ray's, where nothing listens, where something else does."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.address import check_address
from orchestrator.search.ray_session import ray_session

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("address", ["local", "auto"])
def test_what_names_no_host_is_left_to_ray(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", ":6379", "head:port", "127.0.0.1:99999", "::1:6379", "a..b:1", "h:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=rf"search.address: .*{address}.*ray start"):
        check_address(address)


def test_rays_client_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(UserError, match="--address auto"):
        check_address("ray://127.0.0.1:10001")


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    said = rf"search.address: nothing answers at 127.0.0.1:{port} .*ray start"
    with pytest.raises(UserError, match=said), ray_session(SearchSection(address=f"127.0.0.1:{port}")):
        pass
    assert time.monotonic() - started < 10


@pytest.fixture
def web() -> Iterator[int]:
    """The port of a web server, as Ray's dashboard is one."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


def test_an_address_of_ip_version_6_stands_in_brackets() -> None:
    with pytest.raises(UserError, match=r"nothing answers at \[::1\]:1 "):
        check_address("[::1]:1")


def test_what_answers_must_speak_as_ray_does(web: int) -> None:
    with pytest.raises(UserError, match=f"what answers at 127.0.0.1:{web} is not Ray"):
        check_address(f"127.0.0.1:{web}")


@pytest.mark.ray
def test_a_real_ray_is_known() -> None:
    script = """
import sys
from orchestrator.config import SearchSection
from orchestrator.search.address import check_address
from orchestrator.search.ray_session import ray_session
with ray_session(SearchSection()):
    import ray
    check_address(ray.get_runtime_context().gcs_address)
    print("known")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.stdout.strip() == "known", done.stderr
