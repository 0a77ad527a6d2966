"""How many requests may be in the server: so many at work, so many waiting, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ajet.errors import RequestError

RETRY_AFTER_S = 1
"""What a client that is turned away is told to wait."""


class Admission:
    """A door and a queue. Belongs to one event loop."""

    def __init__(self, *, max_concurrent: int, max_queued: int, queue_timeout_s: float) -> None:
        self._places = asyncio.Semaphore(max_concurrent)
        self._max_present = max_concurrent + max_queued
        self._queue_timeout_s = queue_timeout_s
        self.num_present = 0
        """Requests at work or waiting."""

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Come in, before the body is read: what is turned away here costs no memory.

        Raises:
            RequestError: 429, the queue is full.
        """
        if self.num_present >= self._max_present:
            raise _too_many(f"{self.num_present} requests are being worked on or wait")
        self.num_present += 1
        try:
            yield
        finally:
            self.num_present -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place at work, first come, first served.

        Raises:
            RequestError: 429, there was none in time.
        """
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise _too_many(f"no place became free within {self._queue_timeout_s:g} s") from None
        try:
            yield
        finally:
            self._places.release()


def _too_many(why: str) -> RequestError:
    return RequestError(f"{why}; try again later", code="rate_limit_exceeded", status=429)
