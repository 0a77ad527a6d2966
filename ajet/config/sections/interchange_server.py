"""`ajet.interchange_server`: the gateway as an HTTP server, for agents in other processes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, Positive


class InterchangeServerConfig(BaseConfig):
    """The gateway as an HTTP server; it starts when a workflow first asks for a base URL."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than a loopback address lets other machines connect; their
    requests need an episode's key, and nothing is encrypted."""
    port: Annotated[int, Ge(0), Le(65535)] = 0
    """0 takes a free one."""
    public_host: str | None = None
    """Name or address that base URLs have; null is `host`, or the loopback address where that
    stands for all addresses."""
    max_header_bytes: Count = 32768
    """Of a request's first line and headers; more is answered with 431."""
    max_request_bytes: Count = 8388608
    """Of a request's body; more is answered with 413."""
    max_concurrent_requests: Count = 1024
    """Requests that are worked on at the same time; never fewer than `rollout.max_env_worker`,
    because a lockstep engine waits for all of them."""
    max_queued_requests: Count = 1024
    """Requests that may wait for the others; a request beyond them is answered with 429."""
    max_connections: Count = 4096
    """Open connections; for a new one beyond them, the one that was idle longest is closed."""
    queue_timeout_s: Positive = 60.0
    """Seconds that a request may wait for others before it is answered with 429."""
    read_timeout_s: Positive = 60.0
    """Seconds in which a request must have arrived."""
    send_timeout_s: Positive = 60.0
    """Seconds for which a client may leave unread what was sent to it."""
    keep_alive_s: Positive = 120.0
    """Seconds for which a connection may be idle."""
    drain_timeout_s: Positive = 10.0
    """Seconds that requests under way are given when the server stops."""
