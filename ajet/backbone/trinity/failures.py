"""What failed in another process, in a line."""

from __future__ import annotations

from ray.exceptions import RayTaskError


def cause_of(error: BaseException) -> BaseException:
    """The error itself, without the stacks of the processes that it went through."""
    while isinstance(error, RayTaskError):
        error = error.cause
    return error
