"""The Ray cluster that a run is on: its own, or the one that `RAY_ADDRESS` names."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from ajet.errors import ServiceError

logger = logging.getLogger(__name__)

CPUS_PER_RANK = 3
"""As verl reserves them."""
CPUS_BESIDE = 4
"""For its queue, and for what starts a server."""


@contextmanager
def ray_cluster(
    runtime_env: Mapping[str, Any], logs: Path, *, num_ranks: int, pretend: bool
) -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS`; without it, run on one that ends with the block.

    Args:
        runtime_env: what every worker gets.
        logs: the folder that gets the logs of an own cluster, as `ray`.
        num_ranks: each needs a GPU.
        pretend: tell an own cluster of as many GPUs and CPUs, whatever the machine has.

    Raises:
        ServiceError: the cluster is too small.
    """
    options: dict[str, Any] = {
        "runtime_env": dict(runtime_env),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address := os.environ.get("RAY_ADDRESS"):
        logger.info("joining the Ray cluster at %s", address)
        ray.init(address=address, **options)
        with _connected(num_ranks):
            yield
        return
    # Not in the run's folder: sockets lie there, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ajet-ray-", dir="/tmp"))
    (folder / "token").write_text(secrets.token_hex(32), encoding="ascii")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")  # else Ray writes one to the home
    if pretend:
        options |= {"num_gpus": num_ranks, "num_cpus": CPUS_BESIDE + CPUS_PER_RANK * num_ranks}
    try:
        ray.init(address="local", include_dashboard=False, _temp_dir=str(folder), **options)
        with _connected(num_ranks):
            yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]
        for session in folder.glob("session_2*/logs"):
            shutil.copytree(
                session, logs / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True
            )
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connected(num_ranks: int) -> Iterator[None]:
    try:
        there = ray.cluster_resources()
        needed = {"GPU": num_ranks, "CPU": CPUS_BESIDE + CPUS_PER_RANK * num_ranks}
        for name, number in needed.items():
            if there.get(name, 0) < number:
                raise ServiceError(
                    f"Ray has {there.get(name, 0):g} {name}s, verl needs {number} for {num_ranks} "
                    f"rank(s); they may be logical: ray start --num-{name.lower()}s={number}"
                )
        yield
    finally:
        ray.shutdown()
