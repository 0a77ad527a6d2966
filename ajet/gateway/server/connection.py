"""One connection: uvicorn's protocol over httptools, and strict about what it takes.

httptools (llhttp) refuses malformed heads, repeated or contradicting `Content-Length`, and
`Content-Length` beside `Transfer-Encoding`. What is refused here beyond that:

- a request that is too long or too slow;
- a target that is not a path: nothing here is a proxy;
- a `Host` that is missing, doubled, or not ours;
- a transfer coding other than `chunked`, headers after the body;
- a request before the previous one is answered (pipelining).

After a refusal the connection is closed: what follows on it could be anything.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.gateway.server.hosts import HostCheck


class Connection(HttpToolsProtocol):
    """A client's connection, from first byte to last."""

    def __init__(
        self, settings: InterchangeServerConfig, host_check: HostCheck, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._settings = settings
        self._host_check = host_check
        self._in_head = False
        self._num_bytes = 0
        """Of the request that is coming in, without its body."""
        self._unparsed = 0
        """Bytes of a body that are still to come and that the parser must not see."""
        self._refusal = (HTTPStatus.BAD_REQUEST, "not a valid HTTP request")
        self._due: asyncio.TimerHandle | None = None
        """Set while a whole request head is waited for."""
        self._idle_since_s = time.monotonic()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        # Head and body of an answer are two writes: the second must not wait for the first.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self._settings.max_connections:
            self._make_room()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether it became too much."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.send_400_response("")
        if self.transport.is_closing():
            return
        self._num_bytes += len(data)
        if self._is_idle:
            self._expect_head()
        settings = self._settings
        if self._in_head and self._num_bytes > settings.max_header_bytes:
            self._refusal = self._head_too_large()
            self.send_400_response("")
        elif self._num_bytes > settings.max_header_bytes + settings.max_request_bytes:
            self.transport.abort()  # chunks of next to nothing, or an endless trailer

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {"ajet.abort": self.transport.abort}  # type: ignore[dict-item]
        self._in_head = True
        self._num_bytes = 0
        if not self._is_idle:
            self.transport.abort()  # an error now would pass for the answer that is under way
            self._refuse(HTTPStatus.BAD_REQUEST, "wait for the answer before the next request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, complete."""
        if not self._in_head:
            self._refuse(HTTPStatus.BAD_REQUEST, "headers after the body are not taken")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: check it and start the application."""
        self._in_head = False
        self._stop_expecting()
        self._check_head()
        if self.parser.should_upgrade():
            self._unparsed = int(dict(self.headers).get(b"content-length", 0))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._num_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there, unless the parser only thinks so."""
        if not self._unparsed:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was handed to the transport, maybe not yet to the client."""
        super().on_response_complete()
        self._idle_since_s = time.monotonic()
        self._watch_unread()

    def timeout_keep_alive_handler(self) -> None:
        """The connection was idle for too long; what is still unsent will not be read."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Say why, unless an answer is under way, and close."""
        if not self._is_idle and self.cycle.response_started:
            self.transport.abort()
        if self.transport.is_closing():
            return
        status, message = self._refusal
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        body = json.dumps({"error": error}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Like uvicorn, but keep the body of a request that offers another protocol.

        Such an offer is ignored, as HTTP allows; Java's client makes one by default. The parser,
        however, stops after its head.
        """
        if self._unparsed:
            data = self._take_unparsed(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stop:
            self._take_unparsed(data[stop.args[0] :])

    def _take_unparsed(self, data: bytes) -> bytes:
        """Take the body's part of the data; returns the rest."""
        part, rest = data[: self._unparsed], data[self._unparsed :]
        self._unparsed -= len(part)
        self.on_body(part)
        if not self._unparsed:
            self.on_message_complete()
        return rest

    def _check_head(self) -> None:
        if len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > (
            self._settings.max_header_bytes
        ):
            self._refuse(*self._head_too_large())
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse(HTTPStatus.BAD_REQUEST, "expected HTTP/1.1")
        if not self.url.startswith(b"/"):
            self._refuse(HTTPStatus.BAD_REQUEST, "the target must be a path: this is no proxy")
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1:
            self._refuse(HTTPStatus.BAD_REQUEST, f"{len(hosts)} Host headers; expected one")
        if not self._host_check.allows(hosts[0]):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "the Host header names another server")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]) or (codings and self.parser.should_upgrade()):
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding: expected chunked or none")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._refusal = status, message
        raise ValueError(message)  # the parser stops, and `send_400_response` is called

    def _head_too_large(self) -> tuple[HTTPStatus, str]:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return status, f"the head has more than {self._settings.max_header_bytes} bytes"

    def _watch_unread(self, before: int | None = None) -> None:
        """Cut off a client that reads nothing of the rest of its answer for too long."""
        unread = self.transport.get_write_buffer_size()
        if unread == before != 0:
            self.transport.abort()
        elif unread:
            self.loop.call_later(self._settings.send_timeout_s, self._watch_unread, unread)

    def _expect_head(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self._settings.read_timeout_s, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _make_room(self) -> None:
        others: Any = self.connections - {self}
        idle = [other for other in others if other._is_idle]
        oldest = min(idle, key=lambda other: other._idle_since_s, default=self)
        oldest.transport.abort()
