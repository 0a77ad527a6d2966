"""The boundary around user code that runs outside of an episode: imports, readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ajet.errors import AjetError
from ajet.schema.episode import Failure
from ajet.task_runner.failures import failure_of

T = TypeVar("T")


def tried(function: Callable[[], T]) -> T | Failure:
    """What the function returns, or what it raised.

    Raises:
        AjetError: an error of ours, which says all there is to say.
    """
    try:
        return function()
    except AjetError:
        raise
    except (Exception, SystemExit) as error:
        return failure_of(error, "workflow_error")
