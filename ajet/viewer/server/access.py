"""Who may see a run: whoever opened the link with the token, from this machine or by a flag.

1. The `Host` header must name this server: a web page cannot reach it under a name of its own.
2. `Origin`, where a browser sends one, must be this server's own.
3. Only GET and HEAD: nothing can be changed from outside.
4. The token of the link is put into a cookie at the first visit and leaves the address bar.
5. Every answer forbids scripts, styles and frames from anywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ajet.gateway.server.hosts import HostCheck

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_NO_TOKEN = (
    "This page needs the link that ajet view printed: it ends in ?token=...\n"
    "Each start of ajet view makes a new one."
)


class Access:
    """ASGI middleware around everything that the viewer serves.

    Args:
        app: what is behind it.
        token: of the link.
        host_check: which `Host` headers are answered.
        cookie: its name; cookies are shared by all ports of a host, so it holds the port.
    """

    def __init__(self, app: ASGIApp, *, token: str, host_check: HostCheck, cookie: str) -> None:
        self._app = app
        self._digest = _digest(token)
        self._token = token
        self._host_check = host_check
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if (refused := self._refused(scope)) is not None:
            await _plain(send, *refused)
        elif scope["path"] == "/" and (token := _token_in(scope["query_string"])) is not None:
            await self._let_in(token, send)
        elif not self._has_cookie(scope["headers"]):
            await _plain(send, 401, _NO_TOKEN)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason; None: not refused."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._host_check.allows(hosts[0]):
            return 421, "The Host header does not name this server."
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if any(origin.lower() != b"http://" + hosts[0].lower() for origin in origins):
            return 403, "Requests from other web pages are refused."
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "Only GET: this server shows, and changes nothing."
        return None

    async def _let_in(self, token: str, send: Send) -> None:
        if not hmac.compare_digest(_digest(token), self._digest):
            await _plain(send, 401, _NO_TOKEN)
            return
        # Lax: with Strict, a click on the link in another page would arrive without the cookie.
        # Requests that other pages make for scripts, images or data carry neither.
        cookie = f"{self._cookie}={quote(self._token)}; HttpOnly; SameSite=Lax; Path=/"
        await _plain(send, 303, "", [("location", "/"), ("set-cookie", cookie)])

    def _has_cookie(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        for name, value in headers:
            if name == b"cookie":
                try:
                    found = SimpleCookie(value.decode("latin-1")).get(self._cookie)
                except CookieError:
                    continue
                if found and hmac.compare_digest(_digest(found.value), self._digest):
                    return True
        return False


def _token_in(query: bytes) -> str | None:
    values = parse_qs(query.decode("latin-1")).get("token")
    return values[0] if values else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="backslashreplace")).digest()


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name.encode() for name in HEADERS}
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*kept, *_encoded(HEADERS.items())]}
        await send(message)

    return wrapped


async def _plain(
    send: Send, status: int, text: str, headers: Iterable[tuple[str, str]] = ()
) -> None:
    body = text.encode()
    every = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        *HEADERS.items(),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": list(_encoded(every))})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]
