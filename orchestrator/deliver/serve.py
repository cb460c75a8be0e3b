"""A small HTTP server for one bundle: POST an image's bytes to /predict, get JSON; bad input never becomes a server error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.deliver.predict import open_runtime
from orchestrator.deliver.runtime import Runtime
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BYTES = 20_000_000
"""Largest request body."""
AT_ONCE = 8
"""Images decoded and predicted at the same time; further requests wait."""


def serve(bundle: Path | str, *, host: str = "127.0.0.1", port: int = 8000, max_bytes: int = MAX_BYTES) -> None:
    """Serve a bundle until interrupted. There is no login: another host than 127.0.0.1 belongs behind a proxy that has one."""
    import uvicorn

    if not 0 <= port <= 65535:
        raise UserError(f"port: got {port}, allowed: 0 to 65535")
    where = f"http://{host}:{port}"
    print(
        f"serving {Path(bundle)} at {where} (Ctrl-C ends it); try: curl --data-binary @IMAGE.jpg {where}/predict",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    uvicorn.run(build_app(open_runtime(bundle), max_bytes=max_bytes), host=host, port=port, log_level="warning")


def build_app(runtime: Runtime, *, max_bytes: int = MAX_BYTES) -> Starlette:
    """Return the web application: POST /predict (an image file as the body), GET /health.

    400: the body is no readable image; 413: it is larger than `max_bytes`; 404 and 405 as usual; every answer is JSON.
    """
    from anyio import CapacityLimiter, to_thread
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    limiter = CapacityLimiter(AT_ONCE)

    async def predict(request: Request) -> Response:
        body = await read_body(request, max_bytes)
        if body is None:
            return reply({"error": f"body larger than {max_bytes} bytes"}, 413)
        if request.headers.get("content-type", "").startswith("multipart/"):
            return reply({"error": "a form came; send the image's bytes alone: curl --data-binary @IMAGE.jpg URL/predict"}, 400)
        if not body:
            return reply({"error": "empty body; send the bytes of one image file"}, 400)
        (answer,) = await to_thread.run_sync(runtime.answers, [body], limiter=limiter)
        return reply(answer, 400 if "error" in answer else 200)

    async def health(_: Request) -> Response:
        return reply({"status": "ok", "classes": list(runtime.classes), "digest": runtime.manifest["digest"]})

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return reply({"error": error.detail}, error.status_code)

    routes = [Route("/predict", predict, methods=["POST"]), Route("/health", health, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: refuse})


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the request's body, or None as soon as it is known to exceed `limit` bytes."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit() and int(claimed) > limit:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def reply(content: Any, status: int = 200) -> Response:
    """Return a JSON response."""
    from starlette.responses import Response

    return Response(json.dumps(content), status, media_type="application/json")
