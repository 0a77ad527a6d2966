"""Runs the math-verify library in child processes, which may die at any time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

from ajet.errors import EpisodeError

logger = logging.getLogger(__name__)

ATTEMPTS = 2
START_S = 60.0
"""For the imports, on a machine that is busy."""
ANSWER_S = 15.0
"""Longer than the child's own limit (`TIME_LIMIT_S` there), which a stopped child cannot keep."""
MOST_PROCESSES = min(8, os.cpu_count() or 1)
WAIT_S = 0.5
"""How long an answer waits for a child before a further one is started."""
EXIT_S = 1.0
"""How long a child that closed its output may take to exit with a status of its own."""
_CHILD = Path(__file__).with_name("math_verify_child.py")


class MathVerifyPool:
    """Decides whether two expressions are equal. Safe from any thread.

    One child compares as long as it is quick. While it is busy with something hard, which may take
    seconds, further ones start: one for each core, and at most 8. They end with this object.
    """

    def __init__(self) -> None:
        self._free: queue.LifoQueue[MathVerifyProcess] = queue.LifoQueue()
        self._lock = threading.Lock()
        self.num_processes = 0

    def equal(self, gold: list[str], answer: list[str]) -> bool:
        """See `MathVerifyProcess.equal`."""
        process = self._take()
        try:
            return process.equal(gold, answer)
        finally:
            self._free.put(process)

    def _take(self) -> MathVerifyProcess:
        with contextlib.suppress(queue.Empty):
            return self._free.get(timeout=WAIT_S if self.num_processes else 0.0)
        with self._lock:
            if self.num_processes < MOST_PROCESSES:
                self.num_processes += 1
                return MathVerifyProcess()
        return self._free.get()


class MathVerifyProcess:
    """One child, which makes one comparison at a time.

    The child starts with the first comparison. It ends with this object or this process.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def equal(self, gold: list[str], answer: list[str]) -> bool:
        """Whether the two are equal; from each list, the first text that can be parsed counts.

        False if the comparison takes too much time or memory.

        Raises:
            EpisodeError: the child does not start; its own message gives the reason.
        """
        question = json.dumps([gold, answer])
        # A child that another process has ended or stopped says nothing about the answer, so it is
        # asked for once more. One that exits by itself had too much to compare.
        for _ in range(ATTEMPTS):
            if self._child is None or self._child.poll() is not None:
                self._child = self._start()
            reply = _ask(self._child, question)
            if reply:
                return reply == "true"
            status, self._child = self._child.returncode, None
            if status >= 0:
                break
        logger.warning("counted as wrong, too hard to compare: %.200r", answer[0])
        return False

    def _start(self) -> subprocess.Popen[str]:
        for _ in range(ATTEMPTS):
            child = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C must reach only us; we stop it
            )
            weakref.finalize(self, _stop, child)
            if _read(child, START_S) == "ready":
                return child
            if child.returncode >= 0:
                raise EpisodeError("math-verify cannot be started; see its error message above")
        by = signal.Signals(-child.returncode).name
        raise EpisodeError(
            f"math-verify was ended by {by} each time it started; if that is SIGKILL, the machine "
            "may be out of memory"
        )


def _ask(child: subprocess.Popen[str], question: str) -> str:
    assert child.stdin is not None
    try:
        child.stdin.write(question + "\n")
        child.stdin.flush()
    except BrokenPipeError:  # it ended a moment ago
        _stop(child)
        return ""
    return _read(child, ANSWER_S)


def _read(child: subprocess.Popen[str], timeout_s: float) -> str:
    """The child's next line; if there is none in time, end the child and return an empty text."""
    assert child.stdout is not None
    poll = select.poll()  # takes file descriptors of any number, unlike `select.select`
    poll.register(child.stdout, select.POLLIN)
    if poll.poll(timeout_s * 1000):
        if line := child.stdout.readline().strip():
            return line
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(EXIT_S)
    _stop(child)
    return ""


def _stop(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # the child has not read all of it
            pipe.close()
