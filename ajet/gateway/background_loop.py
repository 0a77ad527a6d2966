"""One event loop in a background thread, for work that the caller's own loop cannot do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the process's background loop; safe to call from any thread.

    Cancelling the returned future cancels the coroutine.
    """
    return asyncio.run_coroutine_threadsafe(work, _loop())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # A daemon: the loop never ends, and must not keep the process alive.
    threading.Thread(target=loop.run_forever, name="ajet-background-loop", daemon=True).start()
    return loop
