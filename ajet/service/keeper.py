"""Keeps one command for an owner that may die at any moment: the command does not outlive it.

python -I -S keeper.py FD COMMAND...

FD is our end of a socket whose other end only the owner has. We write one line when the command
has started (`started PID`, or `failed REASON`) and one when it has ended (`ended STATUS`, negative
for a signal). The owner writes how many seconds of patience to have, and then everything below us
is ended: SIGTERM, patience, SIGKILL. The socket's end, which is also the owner's, and a SIGTERM to
us mean the same. When the command ends by itself, what it left behind is ended as well.

A program of its own, on the standard library alone: it must start at once and never fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

PATIENCE_S = 10.0
"""Where the owner died."""
LEFT_BEHIND_S = 2.0
"""For what the command left behind; it misses the command, and the owner may wait for us."""
LAST_S = 5.0
"""For what SIGKILL was sent to; a process that waits for a dead disk does not end even so."""
PR_SET_CHILD_SUBREAPER = 36
_NUM_THREADS = 15
"""In `/proc/PID/stat`, after state and parent (proc(5))."""


def adopt_orphans() -> bool:
    """Become the parent of every orphan below us, daemons too; False where that is not known."""
    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def descendants(pid: int) -> set[int]:
    """Every living process below this one.

    A process whose first thread has ended shows as a zombie while its other threads live, and
    until they have ended nobody adopts its children.
    """
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *rest = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # ended meanwhile
        children.setdefault(int(parent), []).append(int(name))
        if state in b"ZX" and int(rest[_NUM_THREADS]) <= 1:
            dead.add(int(name))
    found: set[int] = set()
    parents = [pid]
    while parents:
        below = children.get(parents.pop(), [])
        found.update(below)
        parents.extend(below)
    return found - dead


class Keeper:
    """One command and everything that it starts."""

    def __init__(self, owner: int, command: list[str]) -> None:
        self.owner = owner
        self.status: int | None = None
        self.adopts = adopt_orphans()
        self.signals, write_end = os.pipe()
        for end in (self.signals, write_end):
            os.set_blocking(end, False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write_end)
        self.pid = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            setpgroup=0,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )
        self.tell(f"started {self.pid}")

    def tell(self, line: str) -> None:
        """To the owner, if there is one."""
        with contextlib.suppress(OSError):
            os.write(self.owner, f"{line}\n".encode())

    def wait(self) -> float:
        """Until the command has ended or shall end; returns the patience to have with the rest."""
        while self.status is None:
            ready, _, _ = select.select([self.owner, self.signals], [], [])
            if self.owner in ready:
                try:
                    return float(os.read(self.owner, 64) or PATIENCE_S)
                except OSError:  # the owner died with a line of ours unread
                    return PATIENCE_S
            if self.take_signals() - {signal.SIGCHLD}:
                return PATIENCE_S
            self.reap()
        return LEFT_BEHIND_S

    def take_signals(self) -> set[int]:
        """Those that came since the last call."""
        try:
            return set(os.read(self.signals, 512))
        except BlockingIOError:
            return set()

    def reap(self) -> None:
        """Take the status of every child that has ended, an adopted one too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.tell(f"ended {self.status}")

    def living(self) -> set[int]:
        """What there is to end: pids, or the negative pid of the command's process group."""
        self.reap()
        if self.adopts:
            return descendants(os.getpid())
        try:
            os.killpg(self.pid, 0)
        except OSError:
            return set()
        return {-self.pid}

    def end(self, patience_s: float) -> None:
        """End all of it."""
        for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, LAST_S)):
            deadline = time.monotonic() + seconds
            told: set[int] = set()
            while (living := self.living()) and time.monotonic() < deadline:
                for pid in living - told:
                    with contextlib.suppress(OSError):  # ended meanwhile, or is another user's
                        os.kill(pid, number)
                told |= living
                select.select([self.signals], [], [], 0.05)
                self.take_signals()


def main() -> None:
    """Keep the command of our arguments."""
    given = int(sys.argv[1])
    owner = os.dup(given)  # which the command does not inherit, and low enough for select
    os.close(given)
    try:
        keeper = Keeper(owner, sys.argv[2:])
    except OSError as error:
        os.write(owner, f"failed {error.strerror}\n".encode())
        return
    keeper.end(keeper.wait())


if __name__ == "__main__":
    main()
