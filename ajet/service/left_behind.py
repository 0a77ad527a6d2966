"""Finds and ends what a service left behind, after its supervisor was lost.

python -I -S left_behind.py PREFIX

Each service has an id in its environment, and every process that it starts inherits it, daemons
included. So its processes can be found even if the supervisor, their common ancestor, is gone. As a
program, this ends what the services of a run left behind, after their supervisors had the time to
do it: PREFIX is what the ids of these services have in common.

It imports the standard library only, as the supervisor does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

VARIABLE = "AJET_SERVICE_ID"
"""Environment variable with the id of the service that a process belongs to."""
GRACE_S = 20.0
"""How long the supervisors of a run that is gone may take: longer than `supervisor.PATIENCE_S` and
`LAST_S` together."""
KILLED_S = 5.0
"""How long to wait after SIGKILL."""
_POLL_S = 0.05
_LOADING_S = 5.0
"""How long to wait for a program that is being loaded: usually less than a millisecond."""
_MEMORY, _CODE, _VARIABLES = 20, 23, 47
"""Indices in `/proc/PID/stat`, counted after the program's name (proc(5))."""


def processes_of(prefix: str) -> set[int]:
    """The pids of all living processes whose service id begins with `prefix`.

    Empty on a system without `/proc`. A process that another user's program became, or one that
    clears its environment at its start, is not found.
    """
    wanted = f"\0{VARIABLE}={prefix}".encode()
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            # An OSError means that it has ended, or is another user's.
            with contextlib.suppress(OSError):
                if wanted in b"\0" + environment_of(pid):
                    found.add(pid)
    return found - {os.getpid()}


def environment_of(pid: int) -> bytes:
    """The variables that a process was started with, as in `/proc/PID/environ`.

    While a program is being loaded (execve), the system shows none of its variables. They are read
    again until it is loaded.

    Returns:
        Empty for a process without variables and for a thread of the kernel.

    Raises:
        OSError: the process has ended, as a zombie has, too, or is another user's.
    """
    deadline = time.monotonic() + _LOADING_S
    before = _program(pid)
    while True:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read()
        program = _program(pid)
        memory, code = program[:2]
        is_loaded = program == before and (memory == 0 or code > 0)
        if variables or is_loaded or time.monotonic() > deadline:
            return variables
        before = program
        time.sleep(0.001)


def _program(pid: int) -> tuple[int, ...]:
    """What tells the program of a process from the next one.

    Returns:
        The size of the memory, 0 for a thread of the kernel; the address of the code, which is 0
        until the variables are in place; the address of the variables.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return tuple(int(fields[index]) for index in (_MEMORY, _CODE, _VARIABLES))


def end_all(prefix: str, patience_s: float) -> int:
    """End these processes: SIGTERM first, SIGKILL after `patience_s` seconds.

    Returns:
        How many there were.
    """
    ended: set[int] = set()
    for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, KILLED_S)):
        deadline = time.monotonic() + seconds
        told: set[int] = set()  # each process gets each signal once; new ones may still come
        while (living := processes_of(prefix)) and time.monotonic() < deadline:
            for pid in living - told:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)  # a stopped process would not see SIGTERM
            told |= living
            time.sleep(_POLL_S)
        ended |= told
    return len(ended)


def main() -> None:
    """Wait until the supervisors have done it, and end the rest."""
    prefix = sys.argv[1]
    deadline = time.monotonic() + GRACE_S
    while processes_of(prefix) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    end_all(prefix, 0.0)


if __name__ == "__main__":
    main()
