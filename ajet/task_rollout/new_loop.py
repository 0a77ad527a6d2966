"""An event loop for one episode."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CLEANUP_S = 1.0
"""What tasks that an episode left behind may take to end after they are cancelled."""


def run_in_new_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a fresh event loop in this thread.

    Unlike `asyncio.run` it does not wait for what was left behind beyond `CLEANUP_S`: neither for
    tasks that ignore their cancellation nor for threads of the loop's executor.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_clean_up())
        loop.close()


async def _clean_up() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=CLEANUP_S)
    await asyncio.get_running_loop().shutdown_asyncgens()
