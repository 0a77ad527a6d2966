"""The boundary around code that is not ours: the only place that catches every exception."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn
from weakref import WeakSet

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Caught:
    """What the block of `caught_error` raised."""

    error: BaseException | None = None
    """None: the block ended without an error."""


@contextmanager
def caught_error(*, cancellation: bool = False) -> Iterator[Caught]:
    """Keep what the block raises instead of raising it; works around `await` as well.

    KeyboardInterrupt and GeneratorExit pass through. A process that the block has forked ends at
    the end of the block. Otherwise it would continue as a second run.

    Args:
        cancellation: keep `asyncio.CancelledError` as well; by default it passes through.
    """
    caught, pid, is_left = Caught(), os.getpid(), True
    try:
        yield caught
    except asyncio.CancelledError as error:
        if not cancellation:
            raise
        caught.error = _from_block(error)
    except KeyboardInterrupt:
        raise
    except GeneratorExit:
        is_left = False  # a forked child may drop the block of an episode of the run
        raise
    # SystemExit, or the panic of a compiled library: it must not end a run of many episodes.
    except BaseException as error:
        caught.error = _from_block(error)
    finally:
        if is_left and os.getpid() != pid:
            _end_forked_process(caught.error)


def _end_forked_process(error: BaseException | None) -> NoReturn:
    """Say on standard error that the block ended in a forked process, and exit at once.

    Nothing else is cleaned up: buffers, files and locks are those of the run.
    """
    raised = f" with {type(error).__name__}: {text_of(error)[:500]}" if error else ""
    with suppress(OSError):
        os.write(
            2,
            f"error: a forked process has left the code that forked it{raised}; end it "
            "with os._exit, or use subprocess or multiprocessing\n".encode(errors="replace"),
        )
    os._exit(1)


def _from_block(error: BaseException) -> BaseException:
    """The error with a traceback that begins in the caller's block, not at the `yield` above."""
    first = error.__traceback__
    return error.with_traceback(first.tb_next if first else None)


def text_of(error: BaseException) -> str:
    """The message of an exception, also of one whose `__str__` fails."""
    with caught_error() as caught:
        return str(error)
    return f"(its __str__ failed with {type(caught.error).__name__})"


def guard_log_handlers() -> Callable[[], None]:
    """Name each log handler that raises an error once, and continue without its lines.

    Otherwise a handler of the user's code, such as one that posts to a chat whose server is not
    there, would end the run at the next line that is logged, wherever that is.

    Returns:
        Call this to let handlers raise again.
    """
    handle = logging.Handler.handle
    faulty = WeakSet[logging.Handler]()

    def handle_or_name(handler: logging.Handler, record: logging.LogRecord) -> bool:
        with caught_error() as caught:
            return handle(handler, record)
        if handler not in faulty:
            faulty.add(handler)  # first, since the warning comes to the same handler
            logger.warning(
                "the log handler %s fails, so lines that it should write are lost: %s: %s",
                type(handler).__name__,
                type(caught.error).__name__,
                text_of(caught.error) if caught.error else "",
            )
        return False

    def undo() -> None:
        logging.Handler.handle = handle  # type: ignore[method-assign]

    logging.Handler.handle = handle_or_name  # type: ignore[method-assign,assignment]
    return undo


@contextmanager
def guarded_log_handlers() -> Iterator[None]:
    """Do as `guard_log_handlers` until the block is left."""
    undo = guard_log_handlers()
    try:
        yield
    finally:
        undo()


@contextmanager
def outside_the_loop() -> Iterator[None]:
    """Let a plain function that a coroutine calls run an event loop of its own (`asyncio.run`).

    Without this, asyncio refuses a second loop in a thread that runs one.
    """
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
