"""One connection: uvicorn's protocol over httptools, and strict about what it takes.

httptools (llhttp) refuses malformed heads, repeated or contradicting `Content-Length`, and
`Content-Length` beside `Transfer-Encoding`. What is refused here beyond that:

- a request that is too long, in its head or in all, or too slow;
- a target that is not a path: nothing here is a proxy;
- a `Host` that is missing, doubled, or not ours;
- a transfer coding other than `chunked`, headers after the body;
- a request before the previous one is answered (pipelining).

After a refusal the connection is closed: what follows on it could be anything.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ajet.config.interchange_server import InterchangeServer
from ajet.tuner.server.hosts import HostCheck


class _Refusal(Exception):
    """Why a request is not taken, and the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(HttpToolsProtocol):
    """A client's connection. `settings` and `host_check` are set in a subclass per server."""

    settings: InterchangeServer
    host_check: HostCheck

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_bytes = 0
        """Of the request that is coming in."""
        self._in_head = False
        self._too_slow: asyncio.TimerHandle | None = None
        """Set while a request is due."""
        self._idle_since = time.monotonic()
        self._refusal: _Refusal | None = None
