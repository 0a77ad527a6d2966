"""One request through ASGI: its body, its answer, and whether its client is still connected."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

from starlette.types import Message, Receive, Scope, Send

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import RequestError
from ajet.gateway.completion import Reply

LINGER_S = 2.0
"""How long the rest of a refused request is read and discarded. Closing a connection that holds
unread data resets it, and the client may lose the answer that says why."""


class ClientDisconnected(Exception):
    """The client has disconnected, or is disconnected because it does not read."""


class AsgiRequest:
    """Reads the body, then sends the answer.

    ASGI has one channel for the body and for the client's disconnecting, so only one task at a time
    may read: `read_body` first, then `wait_for_disconnect` while another task sends.
    """

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
        """Read the whole body.

        Raises:
            ClientDisconnected: before the body was complete.
            RequestError: 413, it is too large; 408, it did not arrive in time.
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

    async def wait_for_disconnect(self) -> None:
        """Return when the client has disconnected."""
        with contextlib.suppress(ClientDisconnected):
            while True:
                await self._next()

    async def send_reply(self, reply: Reply) -> None:
        """Send the whole answer.

        Raises:
            ClientDisconnected: the client did not read for too long.
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
        """Answer a request whose body may still be arriving."""
        if self._length is not None and self._length <= self._settings.max_request_bytes:
            await self.send_reply(reply)  # the connection discards the rest of the body itself
            return
        reply.headers["connection"] = "close"
        await self._start(reply)
        await self._put(reply.body, more=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.wait_for_disconnect()
        await self._put(b"", more=False)

    async def abort(self) -> None:
        """Cut the connection, and wait until ASGI reports it.

        Otherwise uvicorn would log a request that the application left unanswered.
        """
        self._abort()
        with contextlib.suppress(asyncio.CancelledError):  # the server stops; nothing is left to do
            await self.wait_for_disconnect()

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
            raise ClientDisconnected from None

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message


def _content_length(scope: Scope) -> int | None:
    """The body's length; None if it is sent in chunks. The parser has checked the headers."""
    headers = dict(scope["headers"])
    return None if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
