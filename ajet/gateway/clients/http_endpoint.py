"""The door for any HTTP client, in any process and language."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import MissingExtraError

if TYPE_CHECKING:
    from ajet.gateway.gateway import AgentSession
    from ajet.gateway.server.http_server import HttpServer


@dataclass(slots=True, kw_only=True, frozen=True)
class BaseUrlAndApiKey:
    """Where one agent of one episode finds its model."""

    base_url: str
    """Ends in `/v1`, as OpenAI clients have it; Anthropic's clients want it without."""
    api_key: str = field(repr=False)
    """As `Authorization: Bearer` or `x-api-key`. Dies with the episode."""
    model: str


class HttpEndpoint:
    """A run's HTTP server, which starts when the first agent needs it. Any thread."""

    def __init__(self, settings: InterchangeServerConfig | None = None) -> None:
        self._settings = settings or InterchangeServerConfig()
        self._server: HttpServer | None = None
        self._lock = threading.Lock()

    def open(self, port: AgentSession, model: str) -> BaseUrlAndApiKey:
        """A new key for the port.

        Raises:
            ConfigError: nothing can listen on the configured address.
            MissingExtraError: the server's libraries are not installed.
        """
        with self._lock:
            server = self._server = self._server or _start(self._settings)
        return BaseUrlAndApiKey(
            base_url=server.base_url, api_key=server.keys.issue(port), model=model
        )

    def revoke(self, api_key: str) -> None:
        """The key's episode is over: refuse it from now on, cancel its requests."""
        server = self._server
        if server is not None:
            server.keys.revoke(api_key)

    def close(self) -> None:
        """Let requests under way end, then stop the server, if there is one."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()


def _start(settings: InterchangeServerConfig) -> HttpServer:
    try:
        from ajet.gateway.server.http_server import HttpServer
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "httptools", "uvicorn"):
            raise
        raise MissingExtraError(error.name, "server") from None
    return HttpServer(settings)
