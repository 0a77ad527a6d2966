"""Breakpoints that do nothing until their tag is asked for."""

from __future__ import annotations

import os
import re

DEBUG_VARIABLE = "AJET_DEBUG"
"""Environment variable with the tags to stop at, comma-separated; `ajet --debug` sets it."""

_stopped: set[str | None] = set()
"""Tags at which this process has stopped."""


def bp(tag: str | None = None, once: bool = True) -> None:
    """Stop in the debugger if `--debug TAG` (or `AJET_DEBUG=TAG`) names this tag.

    The debugger stops in here; `up` goes to the line that called.

    Args:
        tag: None stops where `--debug` names any tag.
        once: stop only the first time that a process comes to this tag, and not in every episode.
    """
    asked = [name for name in re.split(r"[,|]", os.environ.get(DEBUG_VARIABLE, "")) if name]
    if not asked or (tag is not None and tag not in asked) or (once and tag in _stopped):
        return
    _stopped.add(tag)
    breakpoint()
