"""`ajet.interchange_server`: the gateway as an HTTP server, for agents in other processes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, Positive


class InterchangeServerConfig(BaseConfig):
    """The gateway as an HTTP server; it starts when a workflow first asks for a base URL."""

    host: str = "127.0.0.1"
    """Address to listen on. With a non-loopback address other machines can connect: their requests
    need an episode's key, and the traffic is not encrypted."""
    port: Annotated[int, Ge(0), Le(65535)] = 0
    """Port to listen on; 0: a free port."""
    public_host: str | None = None
    """Host name or address in base URLs. Null: `host`, or the loopback address if `host` means all
    addresses."""
    max_header_bytes: Count = 32768
    """Maximum size of a request line and headers; a larger one is answered with 431."""
    max_request_bytes: Count = 8388608
    """Maximum size of a request body; a larger one is answered with 413."""
    max_concurrent_requests: Count = 1024
    """Requests processed at the same time; at least `rollout.max_env_worker` are always allowed,
    because a lockstep engine waits for all episodes."""
    max_queued_requests: Count = 1024
    """Requests that may wait for processing; further ones are answered with 429."""
    max_connections: Count = 4096
    """Maximum open connections; beyond it, a new connection closes the one idle for longest."""
    queue_timeout_s: Positive = 60.0
    """Seconds that a request may wait for processing before it is answered with 429."""
    read_timeout_s: Positive = 60.0
    """Time limit in seconds for receiving a request."""
    send_timeout_s: Positive = 60.0
    """Time limit in seconds for a client that does not read its response."""
    keep_alive_s: Positive = 120.0
    """Seconds after which an idle connection is closed."""
    drain_timeout_s: Positive = 10.0
    """Seconds that running requests may still take when the server stops."""
