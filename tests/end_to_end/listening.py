"""What the processes of a run listen on, and what a stranger on this machine gets there."""

from __future__ import annotations

import http.client
import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

EVERY_S = 0.3
TIMEOUT_S = 1.0
LATE = 0
"""In place of a status: no answer within that time, as of a server that is busy."""
TRIES = 10
"""How often a socket is asked whose answer is late."""
REFUSALS = {400, 401, 403, 404, 405, 421, 426}
RAYS_OWN = ("/site-packages/ray/", "ray.util.client", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Parts of the command lines of Ray's own servers: some answer anybody here with their metrics."""
PATHS = ("/v1/models", "/")


@dataclass(slots=True, kw_only=True, frozen=True)
class Listener:
    """A socket on which a process of a run accepts connections."""

    process: str
    ip: str
    port: int
    statuses: tuple[int | None, ...]
    """What a request without a key was answered, by path; None: nothing in HTTP."""
    num_tries: int = 1


@contextmanager
def listening(variable: str, value: str) -> Iterator[dict[tuple[str, int], Listener]]:
    """Collect the listening sockets of all processes with this environment, until the end.

    Each is asked without a key as it appears, and again while its answer is late.
    """
    found: dict[tuple[str, int], Listener] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_S):
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get(variable) == value:
                        _look(process, found)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def assert_private(found: dict[tuple[str, int], Listener]) -> None:
    """Check that each socket is on loopback only and refuses requests without a key."""
    outside = [each for each in found.values() if not _is_loopback(each.ip)]
    assert not outside, outside
    open_to_all = [each for each in found.values() if not _refuses(each)]
    assert not open_to_all, open_to_all


def _refuses(listener: Listener) -> bool:
    if any(part in listener.process for part in RAYS_OWN):
        return True
    return all(status in (None, LATE, *REFUSALS) for status in listener.statuses)


def _is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _look(process: psutil.Process, found: dict[tuple[str, int], Listener]) -> None:
    for connection in process.net_connections("tcp"):
        key = (connection.laddr.ip, connection.laddr.port)
        if connection.status == psutil.CONN_LISTEN and _is_to_be_asked(found.get(key)):
            name = " ".join(process.cmdline())
            num_tries = found[key].num_tries + 1 if key in found else 1
            statuses = tuple(_status(key[1], path) for path in PATHS)
            found[key] = Listener(
                process=name, ip=key[0], port=key[1], statuses=statuses, num_tries=num_tries
            )


def _is_to_be_asked(listener: Listener | None) -> bool:
    return listener is None or (LATE in listener.statuses and listener.num_tries < TRIES)


def _status(port: int, path: str) -> int | None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        client.request("GET", path, headers={"Origin": "https://elsewhere.example"})
        return client.getresponse().status
    except TimeoutError:
        return LATE
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()
