"""HTTP transports that lead to an agent's session without a socket.

`openai` speaks HTTP through `httpx2`. With one of these transports its genuine client, types and
errors included, talks to the gateway within the process: on the caller's own event loop, or, for
code that blocks, on a loop in another thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from concurrent.futures import wait
from typing import Any, TypeVar

import httpx2

from ajet.background_loop import start
from ajet.gateway.apis.routes import respond
from ajet.gateway.gateway import AgentSession

T = TypeVar("T")

BASE_URL = "http://ajet.invalid/v1"
"""Never dialled: `.invalid` is reserved for names that do not exist (RFC 2606)."""

CLOSED_CHECK_S = 0.5
"""How often a blocked call checks whether its episode is over."""


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Answers requests to `BASE_URL` from an agent's session, on the caller's event loop."""

    def __init__(self, session: AgentSession) -> None:
        self._session = session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        body = await request.aread()
        reply = await respond(self._session, request.method, request.url.path, body)
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _AsyncEventStream(reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class BlockingTransport(httpx2.BaseTransport):
    """Answers requests to `BASE_URL` from an agent's session, for clients that block.

    The call often blocks the very event loop that the episode runs on, so that loop cannot answer
    it: the request runs on the background loop.
    """

    def __init__(self, session: AgentSession) -> None:
        self._session = session

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request and wait for it."""
        body = request.read()
        work = respond(self._session, request.method, request.url.path, body)
        reply = _wait(self._session, work)
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _BlockingEventStream(self._session, reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class _AsyncEventStream(httpx2.AsyncByteStream):
    """The events of a reply; closing the stream cancels the request."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()


class _BlockingEventStream(httpx2.SyncByteStream):
    """The events of a reply, for code that blocks; closing the stream cancels the request."""

    def __init__(self, session: AgentSession, events: AsyncGenerator[bytes, None]) -> None:
        self._session = session
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        while (event := _wait(self._session, self._next())) is not None:
            yield event

    def close(self) -> None:
        # On the loop that the generator ran on so far: it must not be closed from another thread.
        start(self._events.aclose()).result()

    async def _next(self) -> bytes | None:
        return await anext(self._events, None)


def _wait(session: AgentSession, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; `ConnectError` if the episode ends before that."""
    future = start(work)
    # Polling: a blocked thread cannot be cancelled from outside, and an episode that was stopped
    # must not wait for an engine that never answers.
    while not wait([future], CLOSED_CHECK_S).done:
        if session.closed:
            future.cancel()
            raise httpx2.ConnectError("this episode is over")
    return future.result()
