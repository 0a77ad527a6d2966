"""An HTTP transport that leads to an agent's port without a socket.

`openai` speaks HTTP through `httpx2`; with this transport its genuine client, types and errors
included, talks to the gateway within the process and on the caller's own event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import httpx2

from ajet.gateway.apis.routes import respond
from ajet.gateway.gateway import AgentSession

BASE_URL = "http://ajet.invalid/v1"
"""Never dialled: `.invalid` is reserved for names that do not exist (RFC 2606)."""


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Answers requests to `BASE_URL` from an `AgentPort`."""

    def __init__(self, port: AgentSession) -> None:
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Hand one request to the gateway."""
        body = await request.aread()
        reply = await respond(self._port, request.method, request.url.path, body)
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _EventStream(reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class _EventStream(httpx2.AsyncByteStream):
    """Events as they come; closing it cancels the request."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()
