"""TransferQueue's sockets take only peers that have the token of the run's Ray.

TransferQueue unpickles what it gets, so whoever reaches its port would run code in the run. The
negative control is the same exchange without the key.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transfer_queue")

from tests.end_to_end.command import ROOT

pytestmark = pytest.mark.verl

SERVER = """
import sys, zmq
from transfer_queue.utils.zmq_utils import ZMQMessage, create_zmq_socket
server = create_zmq_socket(zmq.Context(), zmq.ROUTER, "127.0.0.1")
print(server.bind_to_random_port("tcp://127.0.0.1"), flush=True)
if server.poll(3000):
    frames = server.recv_multipart(copy=False)[1:]
    print("received", flush=True)
    try:
        ZMQMessage.deserialize([bytes(frame.buffer) for frame in frames])
    except Exception as error:
        print(type(error).__name__)
"""
CLIENT = """
import sys, zmq
from transfer_queue.utils.zmq_utils import create_zmq_socket
client = create_zmq_socket(zmq.Context(), zmq.DEALER, "127.0.0.1")
client.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
client.send_multipart([b"\\xc1\\xfe\\xed", open(sys.argv[2], "rb").read()])
client.close(linger=1000)
client.context.term()
"""
INSTALLED = "from ajet.backbone.ray_common.private_sockets import install; install()\n"


class Touch:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize(
    ("server", "client", "token", "is_received"),
    [
        (INSTALLED, INSTALLED, "of the run", True),
        (INSTALLED, "", "of the run", False),
        (INSTALLED, INSTALLED, "of another run", False),
        ("", "", "of the run", True),  # as it is without this: the file is made
    ],
)
def test_only_a_peer_with_the_token_is_heard(
    tmp_path: Path, server: str, client: str, token: str, is_received: bool
) -> None:
    message = tmp_path / "message"
    message.write_bytes(pickle.dumps(Touch(tmp_path / "executed")))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_TOKEN": "of the run"}
    command = [sys.executable, "-c", server + SERVER]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        port = listening.stdout.readline().strip()
        command = [sys.executable, "-c", client + CLIENT, port, str(message)]
        subprocess.run(command, env={**env, "RAY_AUTH_TOKEN": token}, check=True, timeout=60)
        said = listening.stdout.read()
    assert ("received" in said) == is_received
    assert (tmp_path / "executed").exists() == is_received
