"""Moves the sockets over which verl hands weights to vLLM out of `/tmp`.

verl 0.9 names them by the number of Ray's job, which is 01000000 in the own Ray of every run. So
two runs on one machine would take each other's socket, and a vLLM the weights of another policy.
And vLLM unpickles what it is sent there. In the run's private temporary folder no other run and no
other user finds them. verl imports this module in each of its processes, vLLM's engine included
(`VERL_USE_EXTERNAL_MODULES`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import zmq

VERLS = "ipc:///tmp/rl-colocate-zmq-"
"""How the addresses begin that verl uses on both sides."""


def moved(address: Any) -> Any:
    """The address in the private temporary folder of the run; another address stays as it is.

    Without such a folder, on another node of a cluster that the run joined, all stay as they are.
    """
    folder = Path(tempfile.gettempdir())
    if not folder.name.startswith("ajet-tmp-") or not str(address).startswith(VERLS):
        return address
    return f"ipc://{folder}/weights-{str(address).removeprefix(VERLS)}"


def _with_moved_address(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def at_moved_address(socket: Any, addr: Any) -> Any:
        return method(socket, moved(addr))

    return at_moved_address


zmq.Socket.bind = _with_moved_address(zmq.Socket.bind)
zmq.Socket.connect = _with_moved_address(zmq.Socket.connect)
