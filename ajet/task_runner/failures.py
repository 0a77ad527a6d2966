"""User code seen from outside: records of what it raised, and the line where it stands."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

from ajet.boundary import caught_error, text_of
from ajet.errors import AjetError
from ajet.schema.episode import Failure, FailureKind

T = TypeVar("T")


MAX_MESSAGE, MAX_TRACEBACK = 2_000, 20_000
"""Characters that are kept: a client may quote a whole response in its error."""
OTHER_LOOP = re.compile(
    "Event loop is closed|bound to a different event loop|attached to a different loop"
    "|Timeout context manager should be used inside a task"
)
"""What asyncio and aiohttp say when a client or lock of one event loop is used on another."""
OTHER_LOOP_HINT = (
    "each episode has an event loop of its own: make asynchronous clients and locks in execute(), "
    "not once for all episodes"
)
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_ENVIRONMENT = f"{_PACKAGE}environment{os.sep}"
"""The code that talks to environments."""
_LIBRARIES = ("/site-packages/", "/lib/python", "<frozen")
"""Parts of paths of code that no user of AgentJet wrote."""


def failure_of(error: BaseException, kind: FailureKind) -> Failure:
    """The record of an exception; its traceback begins at the user's first frame.

    This works for every exception, also one whose `__str__` fails or whose text is huge or cannot
    be encoded.
    """
    message = _storable(": ".join(_names_and_texts(error)), MAX_MESSAGE)
    is_shared = any(OTHER_LOOP.search(text_of(cause)) for cause in causes_of(error))
    return Failure(
        kind=kind,
        message=f"{message} ({OTHER_LOOP_HINT})" if is_shared else message,
        traceback=_storable(_traceback_of(error), MAX_TRACEBACK),
    )


def _names_and_texts(error: BaseException) -> Iterator[str]:
    """Class and first line of an error; of a group also those of the first error in it."""
    yield type(error).__name__
    if first_line := text_of(error).strip().partition("\n")[0]:
        yield first_line
    if isinstance(error, BaseExceptionGroup):
        yield from _names_and_texts(error.exceptions[0])


def _traceback_of(error: BaseException) -> str:
    frames = user_frames(error)
    try:
        all_frames = traceback.walk_tb(error.__traceback__)
        if isinstance(error, AjetError) and all(_is_ours(frame) for frame, _ in all_frames):
            return "".join(traceback.format_exception_only(error))  # its message says all
        return "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # an attribute of the exception failed, such as its __cause__
        where = "".join(traceback.format_tb(frames))
        return f"Traceback (most recent call last):\n{where}{type(error).__name__}\n"


def user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame outside of AgentJet; without one, all but the first."""
    here = error.__traceback__
    while here is not None and _is_ours(here.tb_frame):
        here = here.tb_next
    return here if here is not None or error.__traceback__ is None else error.__traceback__.tb_next


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _storable(text: str, limit: int) -> str:
    """The text as it can be written to any file: encodable, its middle left out if it is long."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} [{len(text) - limit:,} characters left out] {text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def stack_of(thread: threading.Thread) -> str:
    """The current stack of a thread, as text; empty if the thread has ended."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


def place_of(coroutine: Any, thread: threading.Thread | None = None) -> tuple[bool, str]:
    """Where an episode's code stands: whether an environment is asked, and the user's line.

    Args:
        coroutine: what the episode awaits; its innermost code is what counts.
        thread: the thread that runs it, for code that blocks.
    """
    codes = list(_awaited(coroutine))
    if thread is not None and thread.ident is not None:
        codes += _stack(sys._current_frames().get(thread.ident))
    asks_environment = any(code.co_filename.startswith(_ENVIRONMENT) for code, _ in codes)
    own = [
        f"{code.co_filename}:{line}"
        for code, line in codes
        if not code.co_filename.startswith(_PACKAGE)
        and not any(part in code.co_filename for part in _LIBRARIES)
    ]
    return asks_environment, own[-1] if own else ""


def _awaited(coroutine: Any) -> Iterator[tuple[CodeType, int]]:
    """Code and line of a suspended coroutine and of all that it awaits, the innermost last."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            yield frame.f_code, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _stack(frame: FrameType | None) -> list[tuple[CodeType, int]]:
    """Code and line of each frame of a stack, the innermost last."""
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def is_context_overflow(error: BaseException) -> bool:
    """Whether the error was caused by a prompt that was too long.

    Every client library keeps the error code of the API, also when it wraps the error.
    """
    full = "context_length_exceeded"
    return any(attribute_of(cause, "code") == full for cause in causes_of(error))


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, its explicit causes and the errors of its groups; each of them once."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:  # `raise error from error` makes a circle
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        if cause.__cause__ is not None:
            waiting.append(cause.__cause__)


def attribute_of(error: BaseException, path: str) -> str | int | None:
    """A text or number in an error of a client library, such as "response.status_code", or None.

    Attributes may be properties, whose code may fail.
    """
    with caught_error():
        value = attrgetter(path)(error)
        return value if isinstance(value, str | int) else None
    return None


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
