"""What failed in another process, in a line."""

from __future__ import annotations

import re

from ray.exceptions import ActorDiedError, RayTaskError

_WHO = re.compile(r"class_name: (\S+)(?:.|\n)*?pid: (\d+)")


def cause_of(error: BaseException) -> str:
    """What went wrong, without the stacks of the processes that it went through."""
    while isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, ActorDiedError) and (died := _WHO.search(str(error))):
        name, pid = died.groups()
        return f"the process of {name} (pid {pid}) ended unexpectedly"
    return str(error)
