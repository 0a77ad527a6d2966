"""A small process that runs one command and ends it when the owner, the run, ends.

python -I -S supervisor.py FD COMMAND...

FD is our end of a socket pair; only the owner has the other end. We write one line when the command
has started (`started PID`, or `failed REASON`) and one when it has ended (`ended STATUS`, negative
for a signal). To stop the command, the owner writes how many seconds it may take to exit. We then
send SIGTERM to everything below us, wait for so long, and send SIGKILL. When the socket closes
because the owner died, or when we get SIGTERM ourselves, we do the same. When the command exits by
itself, we end the processes that it left behind.

This is a program of its own, and not a thread of the owner, because it must act after `kill -9` of
the owner. It imports the standard library only, so that it starts at once and cannot fail on a
missing package.
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
"""How long the processes may take to exit after SIGTERM when the owner died and gave no time."""
LEFT_BEHIND_S = 2.0
"""How long processes that the command left behind may take to exit. It is short: they have already
lost the command, and the owner may be waiting for us."""
LAST_S = 5.0
"""How long to wait after SIGKILL: a process stuck in disk I/O may not die."""
PR_SET_CHILD_SUBREAPER = 36
_NUM_THREADS = 15
"""Index of the number of threads in `/proc/PID/stat`, counted after state and parent (proc(5))."""


def adopt_orphans() -> bool:
    """Become the parent of all orphans below us, daemons included.

    Returns:
        False if the system cannot do this (it is not Linux).
    """
    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def descendants(pid: int) -> set[int]:
    """The pids of all living processes below this one.

    A process whose first thread has exited looks like a zombie while its other threads live. It
    counts as alive here: until they exit, nobody adopts its children.
    """
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *rest = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended since the folder was listed
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


class Supervisor:
    """Runs one command, and ends it together with everything that it started.

    Args:
        owner: file descriptor of our end of the socket.
        command: the program and its arguments.

    Raises:
        OSError: the command cannot be started.
    """

    def __init__(self, owner: int, command: list[str]) -> None:
        self.owner = owner
        self.status: int | None = None
        self.adopts = adopt_orphans()
        # Signals become bytes in a pipe, so that one `select` waits for them and for the owner.
        # Neither end may block: a handler must return even if the pipe is full.
        self.signals, write_end = os.pipe()
        for end in (self.signals, write_end):
            os.set_blocking(end, False)
        # Before the command starts, or the SIGCHLD of one that ends at once would be lost.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write_end)
        self.pid = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            setpgroup=0,  # a group of its own, which `ajet kill` can signal as a whole
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; the command must not
        )
        self.tell(f"started {self.pid}")

    def tell(self, line: str) -> None:
        """Write a line to the owner; nothing happens if the owner is gone."""
        with contextlib.suppress(OSError):
            os.write(self.owner, f"{line}\n".encode())

    def wait(self) -> float:
        """Block until the command has ended or must end.

        Returns:
            Seconds that the remaining processes may take to exit after SIGTERM.
        """
        while self.status is None:
            ready, _, _ = select.select([self.owner, self.signals], [], [])
            if self.owner in ready:
                try:
                    return float(os.read(self.owner, 64) or PATIENCE_S)
                except OSError:  # the owner died before it read a line of ours
                    return PATIENCE_S
            if self.take_signals() - {signal.SIGCHLD}:
                return PATIENCE_S
            self.reap()
        return LEFT_BEHIND_S

    def take_signals(self) -> set[int]:
        """The signals that arrived since the last call."""
        try:
            return set(os.read(self.signals, 512))
        except BlockingIOError:
            return set()

    def reap(self) -> None:
        """Collect the exit status of every child that has ended, adopted ones included."""
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
        """What is still to be ended: pids, or the negative pid of the command's process group.

        The process group is used where orphans cannot be adopted: a daemon leaves its parent, so
        it is not found below us there.
        """
        self.reap()
        if self.adopts:
            return descendants(os.getpid())
        try:
            os.killpg(self.pid, 0)
        except OSError:
            return set()
        return {-self.pid}

    def end(self, patience_s: float) -> None:
        """End all processes below us: SIGTERM first, SIGKILL after `patience_s` seconds."""
        for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, LAST_S)):
            deadline = time.monotonic() + seconds
            # Each process gets each signal once. The list is made again in each round, because a
            # process that is about to exit may still start another one.
            told: set[int] = set()
            while (living := self.living()) and time.monotonic() < deadline:
                for pid in living - told:
                    with contextlib.suppress(OSError):  # it has ended, or is another user's
                        os.kill(pid, number)
                told |= living
                select.select([self.signals], [], [], 0.05)
                self.take_signals()


def main() -> None:
    """Supervise the command that the arguments name."""
    given = int(sys.argv[1])
    # The copy is not inherited by the command, which must not keep the socket open; and its number
    # is low enough for `select`, which takes none above 1023.
    owner = os.dup(given)
    os.close(given)
    try:
        supervisor = Supervisor(owner, sys.argv[2:])
    except OSError as error:
        os.write(owner, f"failed {error.strerror}\n".encode())
        return
    supervisor.end(supervisor.wait())


if __name__ == "__main__":
    main()
