"""TransferQueue's sockets take only peers that have the token of the run's Ray.

TransferQueue unpickles every message, so a process that reaches its port could run code in the run.
The negative control is a queue without the key.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("transfer_queue")

from tests.end_to_end.command import ROOT

pytestmark = pytest.mark.verl

QUEUE = """
import zmq
from transfer_queue.utils.zmq_utils import ZMQMessage, create_zmq_socket
queue = create_zmq_socket(zmq.Context(), zmq.ROUTER, "127.0.0.1")
print(queue.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    frames = queue.recv_multipart(copy=False)[1:]
    try:
        ZMQMessage.deserialize([bytes(frame.buffer) for frame in frames])
    except Exception:
        pass
"""
PEER = """
import sys, zmq
from zmq import Context
library = {"__name__": "transfer_queue.client", "zmq": zmq}
exec("def peer(): return zmq.Context.instance().socket(zmq.DEALER)", library)
peer = library["peer"]()
peer.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
peer.send_multipart([b"\\xc1\\xfe\\xed", open(sys.argv[2], "rb").read()])
peer.close(linger=int(sys.argv[3]))
zmq.Context.instance().term()
"""
"""Sends a pickle as TransferQueue does."""
WITH_KEY = "from ajet.backbone.ray_common.private_sockets import install; install()\n"
TOKEN = "of the run"


class Touch:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w')",)


def is_executed(port: str, folder: Path, peer: str, token: str, seconds: float) -> bool:
    """True if a queue unpickles a message of a peer within that time."""
    message, made = folder / "message", folder / "made"
    message.write_bytes(pickle.dumps(Touch(made)))
    command = [sys.executable, "-c", peer, port, str(message), str(int(1000 * seconds))]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_TOKEN": token}
    subprocess.run(command, env=env, check=True, timeout=240)
    deadline = time.monotonic() + seconds
    while not made.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    was_made = made.exists()
    made.unlink(missing_ok=True)
    return was_made


@pytest.mark.parametrize("has_key", [True, False])
def test_only_a_peer_with_the_token_is_heard(tmp_path: Path, has_key: bool) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_TOKEN": TOKEN}
    command = [sys.executable, "-c", (WITH_KEY if has_key else "") + QUEUE]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as queue:
        try:
            assert queue.stdout is not None
            port = queue.stdout.readline().strip()
            if has_key:
                assert not is_executed(port, tmp_path, PEER, TOKEN, 2)
                assert not is_executed(port, tmp_path, WITH_KEY + PEER, "of another run", 2)
                assert is_executed(port, tmp_path, WITH_KEY + PEER, TOKEN, 60)
            else:
                assert is_executed(port, tmp_path, PEER, TOKEN, 60)
        finally:
            queue.kill()
