"""The API keys of the HTTP server, and which agent's session each one gives access to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ajet.errors import RequestError
from ajet.gateway.gateway import AgentSession


class Grant:
    """Access to one agent's session, until its episode ends."""

    def __init__(self, session: AgentSession) -> None:
        self.session = session
        self.is_revoked = False
        self._calls: set[asyncio.Task[None]] = set()

    @contextmanager
    def held_by(self, call: asyncio.Task[None]) -> Iterator[None]:
        """Within this context, revoking the grant cancels the call."""
        self._calls.add(call)
        # After adding it: a grant that was revoked before that did not see the call.
        if self.is_revoked:
            call.cancel()
        try:
            yield
        finally:
            self._calls.discard(call)

    def revoke(self) -> None:
        """Cancel the running calls; safe to call from any thread."""
        self.is_revoked = True
        for call in list(self._calls):
            with contextlib.suppress(RuntimeError):  # the loop is closed, so its calls have ended
                call.get_loop().call_soon_threadsafe(call.cancel)


class KeyRing:
    """The keys that are valid now; safe to use from any thread.

    Only digests are kept, and a key is looked up by its digest, so the time that a look-up takes
    reveals nothing about how close a guess was.
    """

    def __init__(self) -> None:
        self._grants: dict[bytes, Grant] = {}

    def issue(self, session: AgentSession, key: str | None = None) -> str:
        """Issue a key: the given one, or a new one with 256 random bits."""
        key = key or f"ajet-{secrets.token_urlsafe(32)}"
        self._grants[_digest(key.encode())] = Grant(session)
        return key

    def revoke(self, key: str) -> None:
        """Make the key invalid and cancel its running calls."""
        grant = self._grants.pop(_digest(key.encode()), None)
        if grant is not None:
            grant.revoke()

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Grant:
        """The grant of the key in `Authorization: Bearer` or `x-api-key`.

        Raises:
            RequestError: 401; the message contains no part of the key.
        """
        keys = {key for name, value in headers if (key := _key(name, value)) is not None}
        if not keys:
            raise _unauthorized("no API key: send it as `Authorization: Bearer` or `x-api-key`")
        if len(keys) > 1:
            raise _unauthorized("more than one API key: send one")
        grant = self._grants.get(_digest(keys.pop()))
        if grant is None:
            raise unknown_key()
        return grant


def unknown_key() -> RequestError:
    """The error for a key that is not valid, or no longer."""
    return _unauthorized("the API key is wrong, or its episode is over")


def _key(name: bytes, value: bytes) -> bytes | None:
    if name == b"x-api-key":
        return value.strip()
    if name == b"authorization":
        scheme, _, key = value.partition(b" ")
        return key.strip() if scheme.lower() == b"bearer" else b""
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _unauthorized(message: str) -> RequestError:
    return RequestError(message, code="invalid_api_key", status=401)
