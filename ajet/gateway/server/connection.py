"""One connection: uvicorn's protocol over httptools, made strict about what it accepts.

httptools (llhttp) refuses malformed heads, repeated or contradicting `Content-Length`, and
`Content-Length` together with `Transfer-Encoding`. This class also refuses:

- a request that is too long or too slow;
- a target that is not a path, because this is no proxy;
- a `Host` header that is missing, repeated, or names another server;
- a transfer coding other than `chunked`, and headers after the body;
- a request before the previous one is answered (pipelining).

After a refusal the connection is closed, because the bytes that follow cannot be trusted to be a
request.
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
    """The connection of one client."""

    def __init__(
        self, settings: InterchangeServerConfig, host_check: HostCheck, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._settings = settings
        self._host_check = host_check
        self._in_head = False
        self._num_bytes = 0
        """Bytes of the arriving request, without its body."""
        self._unparsed = 0
        """Bytes of a body that are still to arrive and that the parser must not see."""
        self._error = (HTTPStatus.BAD_REQUEST, "not a valid HTTP request")
        self._due: asyncio.TimerHandle | None = None
        """Set while the connection waits for a complete request head."""
        self._idle_since_s = time.monotonic()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Prepare a new connection."""
        super().connection_made(transport)
        # Head and body of an answer are two writes. With Nagle's algorithm, the second would wait
        # until the client acknowledges the first.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self._settings.max_connections:
            self._make_room()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection was lost."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, then check whether the request has become too long."""
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
            self._error = self._head_too_large()
            self.send_400_response("")
        elif self._num_bytes > settings.max_header_bytes + settings.max_request_bytes:
            self.transport.abort()  # many tiny chunks, or an endless trailer

    def on_message_begin(self) -> None:
        """Start counting a new request; refuse it if the previous one is not answered."""
        super().on_message_begin()
        self.scope["extensions"] = {"ajet.abort": self.transport.abort}  # type: ignore[dict-item]
        self._in_head = True
        self._num_bytes = 0
        if not self._is_idle:
            # An error that is sent now would be taken for the previous request's answer.
            self.transport.abort()
            self._refuse(HTTPStatus.BAD_REQUEST, "wait for the answer before the next request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a complete header."""
        if not self._in_head:
            self._refuse(HTTPStatus.BAD_REQUEST, "headers after the body are not accepted")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the complete head and start the application."""
        self._in_head = False
        self._stop_expecting()
        self._check_head()
        if self.parser.should_upgrade():
            self._unparsed = int(dict(self.headers).get(b"content-length", 0))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._num_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, unless its body is still arriving (see `_parse`)."""
        if not self._unparsed:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Watch the rest of an answer, which the transport may not have sent yet."""
        super().on_response_complete()
        self._idle_since_s = time.monotonic()
        self._watch_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Cut a connection that was idle for too long, with whatever is still unsent."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Send the refusal, unless an answer has already started, and close."""
        if not self._is_idle and self.cycle.response_started:
            self.transport.abort()
        if self.transport.is_closing():
            return
        status, message = self._error
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        body = json.dumps({"error": error}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Parse as uvicorn does, but keep the body of a request that offers another protocol.

        HTTP allows to ignore such an offer, which Java's client makes by default. The parser,
        however, stops after the head of such a request, so its body is taken here.
        """
        if self._unparsed:
            data = self._take_unparsed(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stop:
            self._take_unparsed(data[stop.args[0] :])

    def _take_unparsed(self, data: bytes) -> bytes:
        """Take the body's part of the data and return the rest."""
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
        self._error = status, message
        raise ValueError(message)  # the parser stops, and `send_400_response` is called

    def _head_too_large(self) -> tuple[HTTPStatus, str]:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return status, f"the head has more than {self._settings.max_header_bytes} bytes"

    def _watch_unread(self, before: int | None = None) -> None:
        """Cut the connection if the client reads nothing of its answer for too long."""
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
