"""Keeps the sockets of verl, Trinity-RFT and torch in Ray's processes to the run.

These libraries trust every process that reaches them. TransferQueue, verl's queue, unpickles each
message. Torch's store of the ranks listens on all addresses and accepts any command. `install` runs
at the start of each of Ray's worker processes, and

1. puts TransferQueue's sockets behind a key (CURVE of ZeroMQ, which also encrypts): a peer needs
   the server's public key, which is derived from the token of the run's Ray and sent nowhere;
2. lets the ranks of one machine meet in a file of the run's private folder instead of at a port.

On a cluster that the run only joins, 1. holds if its Ray has a token. 2. does not: ranks on several
machines need a port.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

HOOK = f"{__name__}.install"
"""For Ray's `worker_process_setup_hook`."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PURPOSE = b"agentjet: key of TransferQueue's sockets, from the token of Ray "


def install() -> None:
    """Set this process up; nothing happens without a token of Ray."""
    if token := _token():
        _guard_queue(token)
    if (address := os.environ.get("MASTER_ADDR")) in _LOOPBACK and (home := home_of_own_ray()):
        # Each group of ranks has a port of its own, and so a file of its own.
        store = f"file://{home}/ranks-{address}-{os.environ['MASTER_PORT']}"
        os.environ["DIST_INIT_METHOD"] = store


def _token() -> bytes:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.encode()
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    try:
        return Path(path).expanduser().read_bytes().strip()
    except OSError:
        return b""


def home_of_own_ray() -> Path | None:
    """The private folder of a Ray that was started for this run; None on a cluster it joined."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", ""))
    return path.parent if path.parent.name.startswith("ajet-ray-") else None


def _guard_queue(token: bytes) -> None:
    import zmq
    from zmq.utils import z85

    secret = z85.encode(hashlib.sha256(_PURPOSE + token).digest())
    make = zmq.Context.socket
    if make.__name__ == "guarded":
        return

    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = make(self, *args, **kwargs)
        if sys._getframe(1).f_globals.get("__name__", "").startswith("transfer_queue."):
            _set_key(made, secret)
        return made

    zmq.Context.socket = guarded


def _set_key(socket: Any, secret: bytes) -> None:
    """Let a socket take only peers with the key, as the server or as a client of one."""
    import zmq

    if socket.type in (zmq.ROUTER, zmq.REP, zmq.PULL, zmq.PUB):
        socket.curve_server = True
        socket.curve_secretkey = secret
    else:
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = zmq.curve_public(secret)
