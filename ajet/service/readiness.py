"""Whether something answers, and where nothing does."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack

_ANSWER_S = 2.0


def answers(url: str) -> bool:
    """Whether a GET gives a status below 500; no proxy is asked."""
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
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
