"""From the engine's thread into the loop of whoever reads a stream."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

MIN_PAUSE_S = 0.1
"""Between two looks at what has come: more often costs more than anybody sees."""


class StreamNotifier:
    """Wakes a reader when there is something new: at once the first time, then with pauses."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_rung = False
        self._next_s = self._loop.time()

    def ring(self) -> None:
        """There is something new. Any thread."""
        if not self._is_rung:
            self._is_rung = True
            with suppress(RuntimeError):  # the reader's loop was closed: nobody is there to wake
                self._loop.call_soon_threadsafe(self._wake_in_time)

    def end(self, task: asyncio.Task[Any]) -> None:
        """The task that rang is done: no pause. To be its callback."""
        if not task.cancelled():
            task.exception()  # seen, also where the reader has gone
        self._event.set()

    async def wait(self) -> None:
        """Until the bell rings."""
        await self._event.wait()
        self._event.clear()
        self._is_rung = False
        self._next_s = self._loop.time() + MIN_PAUSE_S

    def _wake_in_time(self) -> None:
        pause_s = self._next_s - self._loop.time()
        if pause_s > 0:
            self._loop.call_later(pause_s, self._event.set)
        else:
            self._event.set()
