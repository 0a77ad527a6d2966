"""The in-process transport for clients that block.

A blocking call often stands in the very coroutine that the episode's loop is running, so that loop
cannot answer it: the request runs on a loop in another thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import wait
from typing import Any, TypeVar

import httpx2

from ajet.gateway.apis.routes import respond
from ajet.gateway.background_loop import start
from ajet.gateway.gateway import AgentSession

T = TypeVar("T")

LOOK_S = 0.5
"""How soon a blocked call sees that its episode is over."""


class BlockingTransport(httpx2.BaseTransport):
    """Answers requests to `BASE_URL` from an `AgentPort`."""

    def __init__(self, port: AgentSession) -> None:
        self._port = port

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Hand one request to the gateway and wait for its answer."""
        body = request.read()
        reply = _wait(self._port, respond(self._port, request.method, request.url.path, body))
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _EventStream(self._port, reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class _EventStream(httpx2.SyncByteStream):
    """Events as they come; closing it cancels the request."""

    def __init__(self, port: AgentSession, events: AsyncGenerator[bytes, None]) -> None:
        self._port = port
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        while (event := _wait(self._port, self._next())) is not None:
            yield event

    def close(self) -> None:
        start(self._events.aclose()).result()

    async def _next(self) -> bytes | None:
        return await anext(self._events, None)


def _wait(port: AgentSession, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, unless the port is closed before that."""
    future = start(work)
    while not wait([future], LOOK_S).done:
        if port.closed:
            future.cancel()
            raise httpx2.ConnectError("this episode is over")
    return future.result()
