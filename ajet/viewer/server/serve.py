"""Runs the viewer until Ctrl-C or SIGTERM."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ajet.errors import ConfigError
from ajet.gateway.server.hosts import HostCheck, in_url, is_loopback, public_host
from ajet.viewer.api import ViewerApi
from ajet.viewer.run_library import RunLibrary
from ajet.viewer.server.access import Access
from ajet.viewer.server.application import make_app

logger = logging.getLogger(__name__)

STOP_S = 2
"""For requests under way when the server is asked to end."""


def serve(
    place: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    on_ready: Callable[[str], None] = lambda link: None,
) -> None:
    """Serve the run, or the runs, in a folder; returns when asked to end.

    Args:
        place: a run's folder, or a folder that holds runs.
        host: what to listen on.
        port: 0 is any free one.
        token: of the link; None makes one.
        on_ready: gets the link, once connections are accepted.

    Raises:
        ConfigError: there is no such folder, or nothing can listen there.
    """
    library = RunLibrary(place)
    token = token or secrets.token_urlsafe(32)
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    if not is_loopback(host):
        logger.warning(
            "--host %s: other machines can reach the viewer, on port %d. They need the link with "
            "its token; nothing is encrypted",
            host,
            port,
        )
    app = Access(
        make_app(ViewerApi(library)),
        token=token,
        host_check=HostCheck(host, None),
        cookie=f"ajet_view_{port}",
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
        )
    )
    on_ready(f"http://{in_url(public_host(host))}:{port}/?token={token}")
    with listener:
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {in_url(host)}:{port}: {error.strerror}; give another --port"
        ) from error
