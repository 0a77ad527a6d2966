"""`--with-ray` with the real Ray.

1. It is ours alone: own address, own token, on the loopback device, nothing written at home.
2. When the run ends, or is killed, nothing of it is left; nothing else is touched.
3. `bp` in a task stops in Ray's own debugger.
4. SIGTERM is ours to answer.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ajet.debug_point import bp
from ajet.launcher.ray_cluster import RaySize, own_ray
from ajet.monitor.run_record import read_processes, recorded
from ajet.service.supervisor import descendants
from tests.processes.service_processes import ROOT, SLEEPS, eventually, is_gone, python

pytestmark = pytest.mark.verl

OWNER = """
import sys, time
from pathlib import Path
from ajet.launcher.ray_cluster import own_ray
from ajet.monitor.run_record import recorded, service_recorder
folder = Path(sys.argv[1])
with recorded(folder, ["ajet"]), own_ray() as around, around(folder):
    import ray
    ray.init(log_to_driver=False)
    (folder / "ready").write_text("1")
    time.sleep(600)
"""
JOINER = """
import os, sys
from pathlib import Path
from ajet.launcher.ray_cluster import joined_ray
with joined_ray(None) as around, around(Path.cwd()):
    import ray
    ray.init(log_to_driver=False)
    print(ray.get(ray.remote(lambda: os.environ["AJET_DEBUG"]).remote()))
"""
ASKED_TO_END = """
import os, signal
from ajet.backbone.ray_common.cluster import connected
from ajet.backbone.ray_common.resources import RayNeeds
signal.signal(signal.SIGTERM, lambda number, frame: print("asked to end", flush=True))
with connected({}, RayNeeds(gpus=0, cpus=1)):
    os.kill(os.getpid(), signal.SIGTERM)
"""


@dataclass
class Cluster:
    """A Ray of our own, while it runs."""

    folder: Path
    ray: Any
    pids: set[int]


@pytest.fixture(scope="module")
def home() -> Path:
    return Path.home() / ".ray"


@pytest.fixture(scope="module")
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """What `ray stop` would end: a process of somebody else's Ray, by its name."""
    process = subprocess.Popen([*python(SLEEPS), "raylet", "--raylet_socket_name=x"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, bystander: subprocess.Popen[bytes], home: Path
) -> Iterator[Cluster]:
    """Also checks what is left of it."""
    folder = tmp_path_factory.mktemp("run")
    settings = ray_settings()
    files_at_home = sorted(home.glob("**"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AJET_DEBUG", "INSIDE")
        patch.setenv("RAY_AUTH_TOKEN", "of another cluster")
        with recorded(folder, ["ajet"]), own_ray(RaySize(num_gpus=2)) as around, around(folder):
            import ray  # not before: it reads the environment once

            files = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent
            ray.init(log_to_driver=False)
            cluster = Cluster(folder, ray, processes_of(folder))
            yield cluster
            cluster.pids |= processes_of(folder)
    assert not ray.is_initialized()
    assert len(cluster.pids) > 5
    assert all(map(is_gone, cluster.pids))
    assert bystander.poll() is None
    assert not files.exists()
    assert list((folder / "logs" / "ray").glob("gcs_server*"))
    assert ray_settings() == settings
    assert sorted(home.glob("**")) == files_at_home


def ray_settings() -> dict[str, str]:
    """In the environment, but for the one that Ray itself leaves there."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("RAY_") and name != "RAY_CLIENT_MODE"
    }


def processes_of(folder: Path) -> set[int]:
    [service] = read_processes(folder)[-1]["services"]
    return {service["pid"], *descendants(service["pid"])}


def stops_at(tag: str) -> int:
    bp(tag)
    return 7


def test_a_task_runs_and_logical_gpus_need_no_hardware(cluster: Cluster) -> None:
    ray = cluster.ray
    assert ray.cluster_resources()["GPU"] == 2

    @ray.remote(num_gpus=1)
    def gpus() -> list[str]:
        return list(ray.get_gpu_ids())

    assert len(ray.get(gpus.remote())) == 1


def test_its_address_token_and_ports_are_its_own(cluster: Cluster) -> None:
    ray = cluster.ray
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert token.parent.stat().st_mode & 0o077 == 0
    assert ray.get_runtime_context().gcs_address == os.environ["RAY_ADDRESS"]
    assert os.environ["RAY_ADDRESS"].startswith("127.0.0.1:")


def test_a_stranger_without_the_token_does_not_get_in(cluster: Cluster) -> None:
    code = "import ray; ray.init(log_to_driver=False)"
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    stranger = subprocess.run(python(code), env=env, capture_output=True, text=True)
    assert stranger.returncode != 0
    assert "uthenticat" in stranger.stderr


def test_a_breakpoint_in_a_task_waits_in_rays_debugger(cluster: Cluster) -> None:
    from ray.experimental import internal_kv

    ray = cluster.ray
    task = ray.remote(stops_at)
    assert ray.get(task.remote("OUTSIDE")) == 7

    waiting = task.remote("INSIDE")
    assert eventually(lambda: internal_kv._internal_kv_list("RAY_PDB_", namespace="ray_pdb"), 240)
    [key] = internal_kv._internal_kv_list("RAY_PDB_", namespace="ray_pdb")
    found = json.loads(internal_kv._internal_kv_get(key, namespace="ray_pdb"))
    assert found["filename"].endswith("debug_point.py")
    assert ray.wait([waiting], timeout=0.5)[0] == []
    host, _, port = found["pdb_address"].rpartition(":")
    with socket.create_connection((host, int(port))) as debugger:
        debugger.sendall(b"up\np tag * 2\nc\n")
        assert ray.get(waiting, timeout=240) == 7
        debugger.settimeout(60)
        said = b""
        while b"'INSIDEINSIDE'" not in said:
            part = debugger.recv(65536)
            assert part, said
            said += part


def test_one_that_joins_brings_its_breakpoints_along(cluster: Cluster) -> None:
    env = {**os.environ, "AJET_DEBUG": "ELSEWHERE", "PYTHONPATH": str(ROOT)}
    joiner = subprocess.run(python(JOINER), env=env, capture_output=True, text=True)
    assert joiner.stdout == "ELSEWHERE\n", joiner.stderr


def test_sigterm_reaches_a_connected_process_without_a_stack_of_rays_code(cluster: Cluster) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked = subprocess.run(python(ASKED_TO_END), env=env, capture_output=True, text=True)
    assert asked.stdout == "asked to end\n", asked.stderr
    assert "SIGTERM" not in asked.stderr


def test_nothing_of_it_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(python(OWNER, str(tmp_path)), env=env)
    try:
        assert eventually((tmp_path / "ready").is_file, 240)
        pids = processes_of(tmp_path)
        assert len(pids) > 5
    finally:
        owner.kill()
        owner.wait()
    assert eventually(lambda: all(map(is_gone, pids)), 120)
