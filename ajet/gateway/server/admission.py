"""Limits the requests in the server: how many run, how many wait, and none beyond that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ajet.errors import RequestError

RETRY_AFTER_S = 1
"""The `Retry-After` that a client gets with a 429."""


class Admission:
    """Admits requests and queues them; belongs to one event loop."""

    def __init__(self, *, max_concurrent: int, max_queued: int, queue_timeout_s: float) -> None:
        self._places = asyncio.Semaphore(max_concurrent)
        self._max_present = max_concurrent + max_queued
        self._queue_timeout_s = queue_timeout_s
        self.num_present = 0
        """Requests that run or wait."""

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Enter before the body is read, so that a refused request costs no memory.

        Raises:
            RequestError: 429, because the queue is full.
        """
        if self.num_present >= self._max_present:
            raise _too_many(f"{self.num_present} requests are running or waiting")
        self.num_present += 1
        try:
            yield
        finally:
            self.num_present -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a free place, first come, first served, and hold it.

        Raises:
            RequestError: 429, because none became free in time.
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
