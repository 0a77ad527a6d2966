"""Event loops in background threads, for objects that belong to one loop and outlive episodes.

Every episode has an event loop of its own, which is closed when it ends. A client with open
connections belongs to the loop that opened them, so a client that many episodes share needs a loop
that stays.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_all: WeakSet[BackgroundLoop] = WeakSet()


def num_tasks() -> int:
    """Number of coroutines that run on all background loops of this process now."""
    return sum(loop.tasks() for loop in list(_all))


class BackgroundLoop:
    """One event loop in one thread, which starts with its first work; safe from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        _all.add(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        # A forked child has a copy of the loop, but not the thread that runs it.
        os.register_at_fork(after_in_child=self._forget)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; cancelling the future cancels the coroutine."""
        # Locked: threads that come first together must not make a loop each.
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: the loop never ends, and must not keep the process alive.
                arguments = (self._loop,)
                threading.Thread(target=_run, args=arguments, name=self._name, daemon=True).start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop)

    def tasks(self) -> int:
        """Number of coroutines that run on the loop now."""
        try:
            return len(asyncio.all_tasks(self._loop)) if self._loop else 0
        except RuntimeError:  # the set changed again and again while it was copied
            return 0

    def _forget(self) -> None:
        self._loop = None
        self._lock = threading.Lock()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        # Code of users can stop the loop, and SystemExit of any task leaves it. The task has the
        # exception as its own as well, and others still need the loop.
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


_GATEWAY = BackgroundLoop("ajet-background-loop")


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the gateway's background loop; safe to call from any thread.

    Cancelling the returned future cancels the coroutine.
    """
    return _GATEWAY.start(work)
