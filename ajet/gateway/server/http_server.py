"""Runs the HTTP server in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from functools import partial

import uvicorn

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import ConfigError
from ajet.gateway.apis.routes import respond
from ajet.gateway.server.admission import Admission
from ajet.gateway.server.application import make_app
from ajet.gateway.server.connection import Connection
from ajet.gateway.server.endpoint import Answer, Endpoint
from ajet.gateway.server.hosts import HostCheck, in_url, is_loopback, public_host
from ajet.gateway.server.keys import KeyRing

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the operating system queues until they are accepted."""

STOP_S = 5.0
"""Time to shut down after all requests have ended or were cancelled."""


class HttpServer:
    """A server that listens from its construction until `stop`.

    Args:
        settings: address and limits.
        answer: answers the requests; by default the session of the request's key does.
        more_routes: method and path of routes that `answer` serves in addition.

    Raises:
        ConfigError: the server cannot listen on the configured address.
    """

    def __init__(
        self,
        settings: InterchangeServerConfig,
        answer: Answer = respond,
        more_routes: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.keys = KeyRing()
        self._drain_timeout_s = settings.drain_timeout_s
        self.admission = Admission(
            max_concurrent=settings.max_concurrent_requests,
            max_queued=settings.max_queued_requests,
            queue_timeout_s=settings.queue_timeout_s,
        )
        self._socket = _listen(settings)
        endpoint = Endpoint(self.keys, self.admission, settings, answer)
        host = settings.public_host or public_host(settings.host)
        port = self._socket.getsockname()[1]
        self.base_url = f"http://{in_url(host)}:{port}/v1"
        self._uvicorn = uvicorn.Server(_uvicorn_config(settings, endpoint, more_routes))
        self._thread = threading.Thread(target=self._run, name="ajet-http-server", daemon=True)
        self._thread.start()
        _log_address(settings.host, port, self.base_url)

    def stop(self) -> None:
        """Accept no more connections, and wait until the running requests have ended."""
        self._uvicorn.should_exit = True
        self._thread.join(self._drain_timeout_s + STOP_S)

    def _run(self) -> None:
        asyncio.run(self._uvicorn.serve(sockets=[self._socket]))


def _listen(settings: InterchangeServerConfig) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"ajet.interchange_server: cannot listen on {in_url(host)}:{port}: {error.strerror}"
        ) from error


def _uvicorn_config(
    settings: InterchangeServerConfig,
    endpoint: Endpoint,
    more_routes: Sequence[tuple[str, str]],
) -> uvicorn.Config:
    host_check = HostCheck(settings.host, settings.public_host)
    return uvicorn.Config(
        make_app(endpoint, more_routes),
        http=partial(Connection, settings, host_check),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
    )


def _log_address(host: str, port: int, base_url: str) -> None:
    if is_loopback(host):
        logger.info("gateway for other processes of this machine: %s", base_url)
        return
    logger.warning(
        "ajet.interchange_server.host = %s: other machines can reach the gateway, on port %d. "
        "Requests need the key of a running episode; nothing is encrypted. Agents get the URL %s",
        host,
        port,
        base_url,
    )
