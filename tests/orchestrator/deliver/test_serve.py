"""The server over a real socket: right answers, and 4xx for everything else anyone can send."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import uvicorn
from PIL import Image

from orchestrator.deliver.runtime import Runtime
from orchestrator.deliver.serve import build_app, serve
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World

LIMIT = 5000


@pytest.fixture(scope="module")
def port(world: World) -> Iterator[int]:
    config = uvicorn.Config(build_app(Runtime(world.bundle), max_bytes=LIMIT), host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(config)
    started = threading.Event()
    original = server.startup

    async def startup(*args: object, **options: object) -> None:
        await original(*args, **options)  # type: ignore[arg-type]
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(100)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(100)


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


def png(world: World, index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(world.splits.test.images[index]).save(buffer, format="PNG")
    return buffer.getvalue()


def test_answers_like_the_bundle(port: int, world: World) -> None:
    expected = Runtime(world.bundle).probabilities(world.splits.test.images[:3])
    for index in range(3):
        status, answer = ask(port, "POST", "/predict", png(world, index))
        assert status == 200 and answer["class"] == world.splits.classes[expected[index].argmax()]
        assert answer["probability"] == pytest.approx(float(expected[index].max()), abs=1e-6)


def test_health_names_the_classes(port: int, world: World) -> None:
    status, answer = ask(port, "GET", "/health")
    assert status == 200 and answer["status"] == "ok" and answer["classes"] == list(world.splits.classes)


@pytest.mark.parametrize(
    "body", [b"", b"junk", b"{}", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 40, b"\xff\xd8\xff" + b"a" * 9]
)
def test_bad_bodies_are_400(port: int, body: bytes) -> None:
    status, answer = ask(port, "POST", "/predict", body)
    assert status == 400 and answer["error"]


def test_a_form_is_told_what_to_send_instead(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/predict", b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"})
    answer = connection.getresponse()
    assert answer.status == 400 and "--data-binary" in json.loads(answer.read())["error"]


def test_bodies_beyond_the_cap_are_413_claimed_or_streamed(port: int) -> None:
    assert ask(port, "POST", "/predict", b"x" * (LIMIT + 1))[0] == 413
    assert ask(port, "POST", "/predict", iter([b"x" * 3000] * 2))[0] == 413  # type: ignore[arg-type]


def test_other_paths_and_methods_are_404_and_405(port: int) -> None:
    assert ask(port, "GET", "/../etc/passwd")[0] == 404
    assert ask(port, "GET", "/predict")[0] == 405


def test_a_changed_bundle_or_a_port_that_is_none_is_not_served(copy: object, world: World) -> None:
    from pathlib import Path

    assert isinstance(copy, Path)
    (copy / "extra").write_text("")
    with pytest.raises(UserError, match="extra does not belong"):
        serve(copy)
    with pytest.raises(UserError, match="allowed: 0 to 65535"):
        serve(world.bundle, port=70000)
