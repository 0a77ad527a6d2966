"""The client of one request, through ASGI: its body, its answer, whether it is still there."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

from starlette.types import Message, Receive, Scope, Send

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import RequestError
from ajet.gateway.apis.routes import Reply

LINGER_S = 2.0
"""How long the body of a refused request is read and thrown away. A connection that is closed
on data that nobody read is reset, and the client may lose the answer that says why."""


class ClientLeft(Exception):
    """The client has disconnected, or was, because it does not read."""


class AsgiClient:
    """For one task at a time: first the body, then the answer with `gone` beside it."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: InterchangeServerConfig
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._abort = scope["extensions"]["ajet.abort"]
        self._receive = receive
        self._send = send
        self._settings = settings
        self._length = _content_length(scope)
        self.answer_started = False

    async def read_body(self) -> bytes:
        """The whole body.

        Raises:
            ClientLeft: before it was there.
            RequestError: 413, it is too large; 408, it does not come.
        """
        limit = self._settings.max_request_bytes
        body, more = bytearray(), self._length != 0
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                while more and max(len(body), self._length or 0) <= limit:
                    message = await self._next()
                    body += message["body"]
                    more = message["more_body"]
        except TimeoutError:
            raise RequestError("body: it did not arrive in time", status=408) from None
        if max(len(body), self._length or 0) > limit:
            raise RequestError(
                f"body: more than {limit} bytes", code="request_too_large", status=413
            )
        self._length = len(body)
        return bytes(body)

    async def gone(self) -> None:
        """Return when the client has disconnected."""
        with contextlib.suppress(ClientLeft):
            while True:
                await self._next()

    async def answer(self, reply: Reply) -> None:
        """Send it all.

        Raises:
            ClientLeft: it did not read for too long.
        """
        await self._start(reply)
        if reply.events is None:
            await self._put(reply.body, more=False)
            return
        async with aclosing(reply.events) as events:
            async for event in events:
                await self._put(event, more=True)
        await self._put(b"", more=False)

    async def refuse(self, reply: Reply) -> None:
        """Answer a request whose body may still be on its way."""
        if self._length is not None and self._length <= self._settings.max_request_bytes:
            await self.answer(reply)  # the connection itself throws away what still comes
            return
        reply.headers["connection"] = "close"
        await self._start(reply)
        await self._put(reply.body, more=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.gone()
        await self._put(b"", more=False)

    async def drop(self) -> None:
        """Cut the connection, and see it gone: to uvicorn this is then no unanswered request."""
        self._abort()
        with contextlib.suppress(asyncio.CancelledError):  # the server stops: as well
            await self.gone()

    async def _start(self, reply: Reply) -> None:
        headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        if reply.events is None:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        self.answer_started = True
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": headers}
        )

    async def _put(self, body: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ClientLeft from None

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        return message


def _content_length(scope: Scope) -> int | None:
    """Of the body; None where it comes in chunks. The parser has checked the headers."""
    headers = dict(scope["headers"])
    return None if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
