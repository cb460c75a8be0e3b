"""Where a Ray cluster is said to be: whether that can be one, and whether one answers; needs no Ray, so it is known at once."""

from __future__ import annotations

import os
import socket

from orchestrator.errors import UserError

ANSWER_S = 10.0
"""How long a cluster's head may take to accept a connection, and to answer."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How HTTP/2, which Ray speaks, begins: the preface and an empty frame of settings (RFC 9113, section 3.4)."""
SETTINGS = 4
"""The kind of frame with which a server must answer (its fourth byte)."""
NEXT_STEP = (
    "start a cluster with `ray start --head` or `ray up cluster.yaml` (its port is 6379 unless told otherwise), or leave "
    "--address out to search on this machine"
)


def check_address(address: str) -> None:
    """Raise UserError where no Ray can be at `address`: local, auto or HOST:PORT; what "auto" finds, Ray alone knows."""
    if address in ("local", "auto"):
        return
    if address.startswith("ray://"):
        raise UserError(
            f"search.address: got {address!r}; run the search on a node of the cluster with `--address auto` instead"
        )
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if not bare or (":" in host and bare == host) or not (port.isascii() and port.isdigit()):
        raise UserError(f"search.address: got {address!r}; it is local, auto or HOST:PORT; {NEXT_STEP}")
    try:
        with socket.create_connection((bare, int(port)), timeout=ANSWER_S) as connection:
            speaks = os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true") or _speaks_http2(connection)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"search.address: nothing answers at {address} ({error}); {NEXT_STEP}") from error
    if not speaks:
        raise UserError(f"search.address: what answers at {address} is not Ray; {NEXT_STEP}")


def _speaks_http2(connection: socket.socket) -> bool:
    try:
        connection.sendall(GREETING)
        head = b""
        while len(head) < 4 and (more := connection.recv(4 - len(head))):
            head += more
    except OSError:  # it hangs up, or says nothing
        return False
    return len(head) == 4 and head[3] == SETTINGS
