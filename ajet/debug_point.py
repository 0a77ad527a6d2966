"""Breakpoints that do nothing until their tag is asked for."""

from __future__ import annotations

import os
import re

DEBUG_VARIABLE = "AJET_DEBUG"
"""Environment variable with the tags to stop at, comma-separated; `ajet --debug` sets it."""


def bp(tag: str) -> None:
    """Stop in the debugger if `--debug TAG` (or `AJET_DEBUG=TAG`) names this tag.

    The debugger stops in here; `up` goes to the line that called.
    """
    if tag in re.split(r"[,|]", os.environ.get(DEBUG_VARIABLE, "")):
        breakpoint()
