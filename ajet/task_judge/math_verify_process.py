"""Runs the math-verify library in a child process, which may die at any time."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import weakref
from pathlib import Path

from ajet.errors import EpisodeError

logger = logging.getLogger(__name__)

_CHILD = Path(__file__).with_name("math_verify_child.py")


class MathVerifyProcess:
    """Decides whether two expressions are equal. Safe from any thread; one comparison at a time.

    The child starts with the first comparison. It ends with this object or this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def equal(self, gold: list[str], answer: list[str]) -> bool:
        """Whether the two are equal; from each list, the first text that can be parsed counts.

        False if the comparison takes too much time or memory.

        Raises:
            EpisodeError: the child does not start; its own message gives the reason.
        """
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._child = self._start()
            reply = _ask(self._child, json.dumps([gold, answer]))
            if not reply:
                self._child = None
                logger.warning(
                    "counted as wrong, too hard to compare: %.200r",
                    answer[0],
                )
            return reply == "true"

    def _start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C must reach only us; we stop the child
        )
        weakref.finalize(self, _stop, child)
        if _read(child) != "ready":
            raise EpisodeError("math-verify cannot be started; see its error message above")
        return child


def _ask(child: subprocess.Popen[str], question: str) -> str:
    assert child.stdin is not None
    child.stdin.write(question + "\n")
    child.stdin.flush()
    return _read(child)


def _read(child: subprocess.Popen[str]) -> str:
    """The child's next line; if the child has died, clean up and return an empty text."""
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line:
        _stop(child)
    return line


def _stop(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()
