"""pdb for agents: `bp(TAG)` stops at its caller's line, and `q` cannot be caught on its way out."""

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
    """Ends the run by `q`: agent libraries catch ordinary exceptions, such as pdb's own."""

    def trace_dispatch(self, *event: Any) -> Any:
        """Called for each line."""
        try:
            return super().trace_dispatch(*event)
        except BdbQuit:
            raise KeyboardInterrupt from None


@contextmanager
def breakpoints() -> Iterator[None]:
    """`breakpoint()` is ours in the block, unless the user or an editor has chosen another."""
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
