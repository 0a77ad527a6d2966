"""The gateway's HTTP endpoint: base URLs and keys for any HTTP client, in any process."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import MissingExtraError
from ajet.gateway.gateway import MODEL_NAME, AgentSession

if TYPE_CHECKING:
    from ajet.gateway.server.http_server import HttpServer


@dataclass(slots=True, kw_only=True, frozen=True)
class BaseUrlAndApiKey:
    """How an HTTP client reaches the model of one agent of one episode."""

    base_url: str
    """Ends in `/v1`, as OpenAI clients expect it; Anthropic's clients want it without."""
    api_key: str = field(repr=False)
    """For `Authorization: Bearer` or `x-api-key`; valid until the episode ends."""
    model: str


class HttpEndpoint:
    """A run's HTTP server, which starts when the first agent needs it; safe from any thread."""

    def __init__(self, settings: InterchangeServerConfig | None = None) -> None:
        self._settings = settings or InterchangeServerConfig()
        self._server: HttpServer | None = None
        self._lock = threading.Lock()

    def open(self, session: AgentSession) -> BaseUrlAndApiKey:
        """A new key, which is revoked when the session is closed.

        Raises:
            ConfigError: the server cannot listen on the configured address.
            MissingExtraError: the server's libraries are not installed.
        """
        with self._lock:  # episodes start in many threads, and there must be one server only
            server = self._server = self._server or start_server(self._settings)
        api_key = server.keys.issue(session)
        session.on_close(partial(self.revoke, api_key))
        return BaseUrlAndApiKey(base_url=server.base_url, api_key=api_key, model=MODEL_NAME)

    def revoke(self, api_key: str) -> None:
        """Refuse the key from now on and cancel its running requests."""
        server = self._server
        if server is not None:
            server.keys.revoke(api_key)

    def close(self) -> None:
        """Let running requests end, then stop the server, if there is one."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()


def base_url_and_api_key(session: AgentSession, http_endpoint: HttpEndpoint) -> BaseUrlAndApiKey:
    """Base URL, key and model name for one session."""
    return http_endpoint.open(session)


def server_class() -> type[HttpServer]:
    """The class of the HTTP server.

    Raises:
        MissingExtraError: its libraries are not installed.
    """
    try:
        from ajet.gateway.server.http_server import HttpServer
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "httptools", "uvicorn"):
            raise
        raise MissingExtraError(error.name, "server") from None
    return HttpServer


def start_server(settings: InterchangeServerConfig, **more: Any) -> HttpServer:
    """Start the HTTP server; `more` are arguments of `HttpServer`.

    Raises:
        ConfigError: it cannot listen on the configured address.
        MissingExtraError: its libraries are not installed.
    """
    server = server_class()(settings, **more)
    _reach_without_proxy(urlsplit(server.base_url).hostname or "")
    return server


def _reach_without_proxy(host: str) -> None:
    """Except the host from the proxies in the environment, for this process and its children.

    HTTP libraries ask a proxy for the loopback address, too.
    """
    proxies = getproxies_environment()
    excepted = list(filter(None, proxies.pop("no", "").split(",")))
    if proxies and not {host, "*"} & set(excepted):
        # The one in lower case has precedence, so both get all hosts.
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*excepted, host])
