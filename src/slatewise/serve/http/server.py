"""uvicorn around the application: one process, one port, a clean end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from slatewise.errors import SlatewiseError

GRACE_SECONDS = 10
"""How long requests that have begun may take to finish after the signal to stop."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        SlatewiseError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SlatewiseError(
            f"{host}:{port} cannot be listened to: {reason}. Choose another --port or --host."
        ) from error


def url_of(listening: socket.socket) -> str:
    """Where to ask: http://127.0.0.1:8080."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    app: ASGIApp, listening: socket.socket, *, on_ready: Callable[[], None], log_level: str = "warning"
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was begun and return.

    Args:
        app: the application.
        listening: from `listen`.
        on_ready: called when requests are answered.
        log_level: of uvicorn's own output.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

    config = uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # uvicorn raises the signal again when it is done; a service that was asked to stop has not failed
    handlers = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listening])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame
