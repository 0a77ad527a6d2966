"""What a running episode waits for: the engine, the environment, the judge, or the user's code.

Read by another thread while the episode runs, so everything here only looks.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

OURS = str(Path(__file__).parents[1])
ENVIRONMENT = f"{OURS}/environment/"
"""The code that talks to environments."""
LIBRARIES = ("/site-packages/", "/lib/python", "<frozen")
"""Parts of paths of code that no user of AgentJet wrote."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Waiting:
    """One thing that is waited for."""

    what: str
    """`engine`, `environment`, `judge`, `workflow`, or what a backbone waits for."""
    who: str
    """Who waits, in words: task, episode, agent, call."""
    since_s: float
    """Unix time, seconds."""
    where: str = ""
    """File and line of the user's code, if it is known."""

    def text(self, now_s: float) -> str:
        """One line: `engine: task t1, call 2 of agent solver, for 61 s`."""
        where = f" at {self.where}" if self.where else ""
        return f"{self.what}: {self.who}{where}, for {max(0.0, now_s - self.since_s):.0f} s"


def place_of(coroutine: Any, thread: threading.Thread | None = None) -> tuple[bool, str]:
    """Where an episode's code stands: whether an environment is asked, and the user's line.

    Args:
        coroutine: what the episode awaits; its innermost code is what counts.
        thread: the thread that runs it, for code that blocks.
    """
    codes = list(_awaited(coroutine))
    if thread is not None and thread.ident is not None:
        codes += _stack(sys._current_frames().get(thread.ident))
    asks_environment = any(code.co_filename.startswith(ENVIRONMENT) for code, _ in codes)
    own = [
        f"{code.co_filename}:{line}"
        for code, line in codes
        if not code.co_filename.startswith(f"{OURS}/")
        and not any(part in code.co_filename for part in LIBRARIES)
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
