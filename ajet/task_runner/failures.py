"""Turns exceptions of user code into records of failure."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

from ajet.boundary import caught_error
from ajet.errors import AjetError
from ajet.schema.episode import Failure, FailureKind

T = TypeVar("T")


def failure_of(error: BaseException, kind: FailureKind) -> Failure:
    """The record of an exception; its traceback leaves out our own first frame."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    text = "".join(traceback.format_exception(type(error), error, frames))
    first_line = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    message = f"{name}: {first_line}" if first_line else name
    return Failure(kind=kind, message=message, traceback=text)


def stack_of(thread: threading.Thread) -> str:
    """The current stack of a thread, as text; empty if the thread has ended."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


def is_context_overflow(error: BaseException | None) -> bool:
    """Whether the error was caused by a prompt that was too long.

    Every client library keeps the error code of the API, also when it wraps the error.
    """
    while error is not None:
        if getattr(error, "code", None) == "context_length_exceeded":
            return True
        error = error.__cause__
    return False


def call_user_code(function: Callable[[], T]) -> T | Failure:
    """What the function returns, or the record of what it raised.

    For user code that runs outside of episodes: imports and task readers.

    Raises:
        AjetError: our own errors, whose messages need no traceback.
    """
    with caught_error() as caught:
        return function()
    assert caught.error is not None, "without an error the block returned"
    if isinstance(caught.error, AjetError):
        raise caught.error
    return failure_of(caught.error, "workflow_error")
