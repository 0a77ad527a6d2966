"""pdb for workflows: `bp(TAG)` stops at the line that calls it, and `q` always ends the run."""

from __future__ import annotations

import os
import sys
from bdb import BdbQuit
from collections.abc import Iterator
from contextlib import contextmanager
from pdb import Pdb
from typing import Any

from ajet.debug_point import bp


class Debugger(Pdb):
    """pdb whose `q` raises KeyboardInterrupt: agent libraries catch pdb's ordinary exception."""

    def trace_dispatch(self, *event: Any) -> Any:
        try:
            return super().trace_dispatch(*event)
        except BdbQuit:
            raise KeyboardInterrupt from None


@contextmanager
def breakpoints() -> Iterator[None]:
    """Make `breakpoint()` use `Debugger`, unless the user or an editor has set a hook."""
    is_chosen = sys.breakpointhook is not sys.__breakpointhook__
    if is_chosen or "PYTHONBREAKPOINT" in os.environ:
        yield
        return
    sys.breakpointhook = _stop
    try:
        yield
    finally:
        sys.breakpointhook = sys.__breakpointhook__


def _stop() -> None:
    frame = sys._getframe(1)
    if frame.f_code is bp.__code__ and frame.f_back is not None:
        frame = frame.f_back
    Debugger().set_trace(frame)
