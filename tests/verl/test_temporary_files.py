"""The folders in which verl's processes make their temporary files and sockets.

1. verl hands weights to vLLM at a socket in the run's own folder: two runs on one machine, whose
   Rays count jobs alike, do not take each other's socket. Without our module they do.
2. A run that joins a Ray gives the processes a temporary folder that goes with the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("verl")

from ajet.service.private_folder import private_folder, short_folder
from tests.end_to_end.command import ROOT

pytestmark = pytest.mark.verl

SOCKET = "ipc:///tmp/rl-colocate-zmq-{job}-replica-0-rank-0.sock"
SENDER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REQ)
socket.bind(sys.argv[1])
print("bound", flush=True)
socket.send_pyobj("weights of " + sys.argv[2])
print(socket.recv_pyobj(), flush=True)
"""
RECEIVER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.setsockopt(zmq.RCVTIMEO, 60_000)
socket.connect(sys.argv[1])
print(socket.recv_pyobj())
socket.send_pyobj("received")
"""
OUR_MODULE = "import ajet.backbone.verl.weight_sockets\n"
JOINER = """
import os, tempfile
from pathlib import Path
os.environ["RAY_AUTH_TOKEN"] = Path(os.environ.pop("RAY_AUTH_TOKEN_PATH")).read_text()
import ray
from ajet.backbone.ray_common.cluster import connected
from ajet.backbone.ray_common.resources import RayNeeds
def where():
    return tempfile.mkdtemp()
with connected({"env_vars": {"OF_THE_RUN": "1"}}, RayNeeds(gpus=0, cpus=1)):
    made = ray.get(ray.remote(where).remote())
    print(made, Path(made).is_dir())
print(Path(made).is_dir())
"""
OWNER = """
import os, subprocess, sys
from pathlib import Path
from ajet.launcher.ray_cluster import RaySize, own_ray
from ajet.monitor.run_record import recorded
folder = Path(sys.argv[1])
size = RaySize(num_cpus=2)
with recorded(folder, ["ajet"]), own_ray(size) as around, around(folder):
    sys.exit(subprocess.run([sys.executable, "-c", sys.argv[2]]).returncode)
"""


def start(code: str, folder: Path, *args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("has_module", [True, False])
def test_each_run_hands_over_its_own_weights(has_module: bool) -> None:
    address = SOCKET.format(job=os.getpid())
    prefix = OUR_MODULE if has_module else ""
    senders = {}
    with ExitStack() as stack:
        stack.callback(Path(address.removeprefix("ipc://")).unlink, missing_ok=True)
        folders = {
            name: stack.enter_context(private_folder("tmp", short_folder())) for name in "ab"
        }
        for name, folder in folders.items():
            senders[name] = start(prefix + SENDER, folder, address, name)
            stack.callback(end, senders[name])
            stdout = senders[name].stdout
            assert stdout is not None and stdout.readline() == "bound\n"
        receiver = start(prefix + RECEIVER, folders["a"], address)
        received, _ = receiver.communicate(timeout=240)
        assert received == f"weights of {'a' if has_module else 'b'}\n"


@pytest.mark.slow
def test_a_run_that_joins_a_ray_leaves_no_temporary_files(tmp_path: Path) -> None:
    with start(OWNER, Path("/tmp"), str(tmp_path), JOINER) as owner:
        said, _ = owner.communicate(timeout=200)
    made, *was_there = said.split()
    assert Path(made).parent.name.startswith("ajet-tmp-")
    assert was_there == ["True", "False"]
