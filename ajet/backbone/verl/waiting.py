"""Waits that end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ray.exceptions import RayError, RayTaskError

from ajet.errors import TrainingError

T = TypeVar("T")


def call_with_timeout(seconds: float, what: str, call: Callable[[], T]) -> T:
    """What the call returns, unless it takes too long or a process that it needs is gone.

    The call runs in a thread of its own, which is left behind when time is over.

    Args:
        seconds: the limit.
        what: is done, for the message.
        call: what waits for other processes.

    Raises:
        TrainingError: time is over, or a worker died or failed.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"verl: {what}", daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise TrainingError(f"verl: {what} is not done after {seconds:g} s") from error
    except RayTaskError as error:  # its own text is the traceback of the other process
        raise TrainingError(f"verl: {what} failed: {error.cause!r}") from error
    except RayError as error:
        raise TrainingError(f"verl: {what} failed: {error}") from error
