"""The boundary around code that is not ours: the only place that catches every exception."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Caught:
    """What the block of `caught_error` raised."""

    error: BaseException | None = None
    """None: the block ended without an error."""


@contextmanager
def caught_error(*, cancellation: bool = False) -> Iterator[Caught]:
    """Keep what the block raises instead of raising it; works around `await` as well.

    KeyboardInterrupt and GeneratorExit pass through.

    Args:
        cancellation: keep `asyncio.CancelledError` as well; by default it passes through.
    """
    caught = Caught()
    try:
        yield caught
    except asyncio.CancelledError as error:
        if not cancellation:
            raise
        caught.error = _from_block(error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    # SystemExit, or the panic of a compiled library: it must not end a run of many episodes.
    except BaseException as error:
        caught.error = _from_block(error)


def _from_block(error: BaseException) -> BaseException:
    """The error with a traceback that begins in the caller's block, not at the `yield` above."""
    first = error.__traceback__
    return error.with_traceback(first.tb_next if first else None)


def text_of(error: BaseException) -> str:
    """The message of an exception, also of one whose `__str__` fails."""
    with caught_error() as caught:
        return str(error)
    return f"(its __str__ failed with {type(caught.error).__name__})"
