"""Calls of other processes with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ray.exceptions import RayError, RayTaskError

from ajet.errors import TrainingError

T = TypeVar("T")


def call_with_timeout(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Run `call` and return its result, or fail after a time limit.

    The call runs in a thread of its own. A thread cannot be stopped, so after a timeout it is
    abandoned.

    Args:
        seconds: the time limit.
        what: what the call does, for the message.
        call: waits for other processes.

    Raises:
        TrainingError: the time is over, or a worker died or failed.
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
        if future.done():  # the call itself raised this TimeoutError
            raise
        raise TrainingError(f"verl: {what} is not done after {seconds:g} s") from error
    except RayTaskError as error:  # its text is a traceback; the cause says what happened
        raise TrainingError(f"verl: {what} failed: {error.cause!r}") from error
    except RayError as error:
        raise TrainingError(f"verl: {what} failed: {error}") from error
