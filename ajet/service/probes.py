"""Questions about processes and addresses: is this still that process, and does it answer?"""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

_ANSWER_S = 2.0


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5)).

    The system gives a pid to another process later, but never a pid with the same start time, so
    both together identify a process.

    Returns:
        None if there is no such process, it is a zombie, or the system is not Linux.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses; it may itself contain blanks and
    # parentheses, so the fields are counted from the last one.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def answers(url: str) -> bool:
    """Whether a GET request returns a status below 500; proxies are bypassed."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=_ANSWER_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False
    return True


def listens(host: str, port: int) -> bool:
    """Whether a process accepts connections at this address."""
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which no process listens at the moment."""
    with ExitStack() as stack:
        # All are bound at the same time, so that the system does not name one port twice.
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
