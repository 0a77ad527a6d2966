"""The math-verify library at a safe distance: a child process that may be lost at any time."""

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
    """Says whether two expressions are equal. Any thread; one comparison at a time.

    The child starts with the first question and is stopped with this object or this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def equal(self, gold: list[str], answer: list[str]) -> bool:
        """Whether the two say the same; of either, the first text that can be read counts.

        False where the comparison takes too much time or memory.

        Raises:
            EpisodeError: the child does not start; its own message says why.
        """
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._child = self._start()
            reply = _ask(self._child, json.dumps([gold, answer]))
            if not reply:
                self._child = None
                logger.warning("counted as wrong, too hard to compare: %.200r", answer[0])
            return reply == "true"

    def _start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, and then we stop it
        )
        weakref.finalize(self, _stop, child)
        if _read(child) != "ready":
            raise EpisodeError("math-verify cannot be started; its own message stands above")
        return child


def _ask(child: subprocess.Popen[str], question: str) -> str:
    assert child.stdin is not None
    child.stdin.write(question + "\n")
    child.stdin.flush()
    return _read(child)


def _read(child: subprocess.Popen[str]) -> str:
    """The child's next line; empty, and the child gone, if it has ended."""
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
