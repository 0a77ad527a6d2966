"""Which key opens which agent's port."""

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
    """What a key gives: one agent's port, for as long as its episode lasts."""

    def __init__(self, port: AgentSession) -> None:
        self.port = port
        self.is_revoked = False
        self._calls: set[asyncio.Task[None]] = set()

    @contextmanager
    def held_by(self, call: asyncio.Task[None]) -> Iterator[None]:
        """While this lasts, revoking the grant cancels the call."""
        self._calls.add(call)
        if self.is_revoked:
            call.cancel()
        try:
            yield
        finally:
            self._calls.discard(call)

    def revoke(self) -> None:
        """Cancel the calls under way. Any thread."""
        self.is_revoked = True
        for call in list(self._calls):
            with contextlib.suppress(RuntimeError):  # a closed loop has no calls left
                call.get_loop().call_soon_threadsafe(call.cancel)


class KeyRing:
    """The keys that are valid now. Any thread.

    Only digests are kept, and a key is looked up by its digest: how long that takes tells nothing
    about how near a guess was.
    """

    def __init__(self) -> None:
        self._grants: dict[bytes, Grant] = {}

    def issue(self, port: AgentSession) -> str:
        """A new key: 256 random bits."""
        key = f"ajet-{secrets.token_urlsafe(32)}"
        self._grants[_digest(key.encode())] = Grant(port)
        return key

    def revoke(self, key: str) -> None:
        """The key opens nothing any more, and what it opened is cancelled."""
        grant = self._grants.pop(_digest(key.encode()), None)
        if grant is not None:
            grant.revoke()

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Grant:
        """The grant of the key in `Authorization: Bearer` or `x-api-key`.

        Raises:
            RequestError: 401, with nothing of the key in it.
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
    """What a key gets that opens nothing, or nothing any more."""
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
