"""A small process that ends the run when nothing in it can run any more.

python -I -S watcher.py FD PID STACKS LIMIT_S SERVICES

A thread of the run writes a zero byte to FD every second. Code that holds the interpreter in C,
such as a regular expression with catastrophic backtracking, stops that thread, too: no deadline is
kept, and no signal is handled. After a third of LIMIT_S without a byte we make the run write the
stacks of its threads to the file STACKS (its handler of `DUMP_SIGNAL` needs no interpreter) and
show them. After LIMIT_S, or 10 s after a signal that asks the run to end, we end it with SIGKILL.
Its last checkpoint is there, so it can be resumed.

The numbers of the signals that reach the run come through FD as well (`signal.set_wakeup_fd`). A
run that is stopped (Ctrl-Z, a debugger) is not ended. When FD closes, or the process PID ends, the
run has ended. We then become the program `left_behind.py`, which ends what its services left
behind: SERVICES is what their ids begin with. It is empty while the run reads its tasks: there are
no services then, and nothing to resume.

This is a program of its own, and not a thread, because no thread runs then. It imports the standard
library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable

DUMP_SIGNAL = signal.SIGUSR2
DUMP_S = 5.0
"""How long the run may take to write its stacks."""
QUIET_S = 0.25
"""The stacks count as written when their file has grown and does not grow further for so long."""
ASKED_S = 10.0
"""How long a run that was asked to end may be without a sign of life."""
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU}
WAITS = (" in wait", " in select", " in _recv", " in accept", " in poll", " in _worker")
"""How the innermost line of a thread ends that only waits."""
WHILE_TRAINING = (
    "Continue it with --resume. With task_runner.isolation=process, such code ends its own episode "
    "only"
)
WHILE_READING = (
    "It was loading your code and reading the tasks. If that takes so long, give it more time with "
    "task_runner.unresponsive_timeout_s"
)
MAX_STACKS = 20_000
"""Characters of the stacks that are shown."""


class Watcher:
    """Watches one run.

    Args:
        run: file descriptor of our end of the socket.
        pid: of the run.
        stacks: the file to which the run writes its stacks.
        limit_s: seconds without a sign of life after which the run is ended.
        advice: what the user can do then.
    """

    def __init__(self, run: int, pid: int, stacks: str, limit_s: float, advice: str) -> None:
        self.run = run
        self.pid = pid
        # A handle on this very process: its number may be given to another one after its end.
        self.handle = os.pidfd_open(pid)
        self.stacks = stacks
        self.limit_s = limit_s
        self.advice = advice
        self.last_s = time.monotonic()
        self.asked_s: float | None = None
        self.has_warned = False

    def watch(self) -> None:
        """Return when the run has ended."""
        while True:
            # The handle is ready when the run has ended, although a child of it may keep FD open.
            began_s = time.monotonic()
            ready, _, _ = select.select([self.run, self.handle], [], [], 1.0)
            self.allow(time.monotonic() - began_s - 1.0)
            if self.handle in ready:
                return
            if ready:
                received = os.read(self.run, 4096)
                if not received:
                    return
                self.take(received)
            elif self.is_stopped():
                self.last_s, self.asked_s = time.monotonic(), None
            if not self.look():
                return

    def allow(self, late_s: float) -> None:
        """Do not count time in which the system did not run this process, nor perhaps the run."""
        if late_s > 0:
            self.last_s += late_s
            self.asked_s = self.asked_s and self.asked_s + late_s

    def take(self, received: bytes) -> None:
        """Note signs of life and signals."""
        now = time.monotonic()
        if 0 in received:
            if self.has_warned:
                self.tell("the run continues")
            self.last_s, self.asked_s, self.has_warned = now, None, False
        elif ENDING & set(received):
            self.asked_s = self.asked_s or now

    def look(self) -> bool:
        """Warn of a run without a sign of life, or end it; False if it was ended."""
        now = time.monotonic()
        silent_s = now - self.last_s
        if silent_s > self.limit_s or (self.asked_s is not None and now - self.asked_s > ASKED_S):
            if not self.has_warned:
                self.tell(self.report(silent_s))
            ended = f"error: the run is ended: no Python code of it ran for {silent_s:.0f} s."
            self.tell(f"{ended} {self.advice}")
            self.send(signal.SIGKILL)
            return False
        if silent_s > self.limit_s / 3 and not self.has_warned:
            self.has_warned = True
            self.tell(self.report(silent_s))
            left_s = max(self.limit_s - (time.monotonic() - self.last_s), 0.0)
            self.tell(
                f"the run is ended in {left_s:.0f} s if this continues "
                "(task_runner.unresponsive_timeout_s)"
            )
        return True

    def report(self, silent_s: float) -> str:
        """What the run's threads do."""
        wait_until_written(self.size_of_stacks, lambda: self.send(DUMP_SIGNAL), DUMP_S, QUIET_S)
        try:
            with open(self.stacks, encoding="utf-8", errors="replace") as file:
                stacks = file.read()
        except OSError as error:
            stacks = f"({self.stacks} cannot be read: {error.strerror})"
        threads = stacks.strip().split("\n\n")
        busy = [each for each in threads if not _waits(each)] or threads
        shown = "\n".join(busy)[:MAX_STACKS]
        return (
            f"warning: no Python code of the run has run for {silent_s:.0f} s: some code holds the "
            f"interpreter. Threads that do not wait (all threads: {self.stacks}):\n{shown}"
        )

    def size_of_stacks(self) -> int:
        """In bytes; 0 if there is no such file."""
        try:
            return os.path.getsize(self.stacks)
        except OSError:
            return 0

    def is_stopped(self) -> bool:
        """Whether the run is stopped by a signal or a debugger."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except OSError:
            return False

    def send(self, number: int) -> None:
        """Send the run a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)

    def tell(self, text: str) -> None:
        """Write to the terminal of the run; nothing happens if it is gone."""
        with contextlib.suppress(OSError):
            os.write(2, f"{text}\n".encode(errors="backslashreplace"))


def wait_until_written(
    size: Callable[[], int], ask: Callable[[], None], limit_s: float, quiet_s: float
) -> int:
    """Ask another process to write its stacks to a file; return the size of the file then.

    It writes in a signal handler, and nothing says when it is done. So the file must have grown
    and then keep its size for `quiet_s`. After `limit_s` we take what is there.
    """
    begun = now = size()
    ask()
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        before, now = now, size()
        if begun < before == now:
            break
    return now


def _waits(thread: str) -> bool:
    """Whether the innermost call of a thread is one that waits without holding the interpreter."""
    _, _, frames = thread.partition("\n")
    return frames.partition("\n")[0].endswith(WAITS)


def main() -> None:
    """Watch the run that the arguments name."""
    run, pid, stacks, limit_s, services = sys.argv[1:]
    advice = WHILE_TRAINING if services else WHILE_READING
    Watcher(int(run), int(pid), stacks, float(limit_s), advice).watch()
    if services:
        program = os.path.join(os.path.dirname(__file__), "left_behind.py")
        os.execv(sys.executable, [sys.executable, "-I", "-S", program, services])


if __name__ == "__main__":
    main()
